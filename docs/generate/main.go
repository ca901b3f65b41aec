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
	err = os.WriteFile("docs/configuration.md", reference.Configuration(model), 0o644) //nolint:gosec // a document
	if err != nil {
		log.Fatal(err)
	}
}
