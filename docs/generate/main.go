// Command generate writes docs/configuration.md.
package main

import (
	"log"
	"os"

	"tradestore/cmd"
	"tradestore/internal/reference"
)

func main() {
	model, err := cmd.Model()
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile("docs/configuration.md", reference.Configuration(model), 0o644); err != nil { //nolint:gosec // a document
		log.Fatal(err)
	}
}
