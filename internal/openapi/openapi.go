// Package openapi holds the description of the HTTP API, openapi.yaml, and the page that shows it (page.go).
package openapi

import (
	_ "embed" // of the description
	"encoding/json"
	"fmt"
	"sync"

	"go.yaml.in/yaml/v3"
)

// YAML is the description, an OpenAPI 3.1 document, as it is written.
//
//go:embed openapi.yaml
var YAML []byte

// JSON returns the same document as JSON. It panics if the YAML can't be JSON, which a test rules out.
var JSON = sync.OnceValue(func() []byte {
	var document map[string]any
	if err := yaml.Unmarshal(YAML, &document); err != nil {
		panic(fmt.Sprintf("openapi.yaml: %v", err))
	}
	text, err := json.Marshal(document)
	if err != nil {
		panic(fmt.Sprintf("openapi.yaml: %v", err))
	}
	return text
})
