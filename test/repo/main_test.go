// Package repo holds what the repository as a whole keeps: documents, the image, the compose file, who imports whom.
package repo

import (
	"log"
	"os"
	"testing"

	"tradestore/test/stack"
)

// Tests of this package run in the root of the module, so that they name files as the documents do.
func TestMain(m *testing.M) {
	if err := os.Chdir("../.."); err != nil {
		log.Fatal(err)
	}
	stack.Main(m)
}
