// Command generate writes the JSON of the dashboards into a folder: `make dashboards`.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"tradestore/dashboards"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: generate FOLDER")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(folder string) error {
	files, err := dashboards.Files()
	if err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o644); err != nil { //nolint:gosec // committed files
			return fmt.Errorf("cannot write a dashboard: %w", err)
		}
	}
	return nil
}
