// Command generate writes the rule files into a folder: `make rules`.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"tradestore/dashboards/rules"
)

func main() {
	out := flag.String("out", "dashboards/rules", "folder for the files")
	scale := flag.Float64("scale", 1, "factor for all windows and waits")
	dashboards := flag.String("dashboards", rules.Dashboards, "address of Grafana, for the links of alerts")
	runbooks := flag.String("runbooks", rules.Runbooks, "address of docs/runbooks.md, likewise")
	flag.Parse()
	for name, text := range rules.Make(*scale) {
		text = bytes.ReplaceAll(text, []byte(rules.Dashboards), []byte(*dashboards))
		text = bytes.ReplaceAll(text, []byte(rules.Runbooks), []byte(*runbooks))
		if err := os.WriteFile(filepath.Join(*out, name), text, 0o644); err != nil { //nolint:gosec // Prometheus reads them
			fmt.Fprintln(os.Stderr, "cannot write the rules:", err)
			os.Exit(1)
		}
	}
}
