package openapi

import (
	"context"
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	_ "tradestore/test/cleanenv"
)

// The document is OpenAPI 3.1, in both spellings, and its examples are valid against their schemas.
func TestDocumentIsValid(t *testing.T) {
	for _, text := range [][]byte{YAML, JSON()} {
		document, err := openapi3.NewLoader().LoadFromData(text)
		require.NoError(t, err)
		require.True(t, document.IsOpenAPI31OrLater())
		require.NoError(t, document.Validate(context.Background(), openapi3.EnableExamplesValidation()))
	}
}

func TestBrokenExampleIsFound(t *testing.T) {
	broken := strings.Replace(string(YAML), `maturity_date: "2099-12-31"`, `maturity_date: "2099-31-12"`, 1)
	document, err := openapi3.NewLoader().LoadFromData([]byte(broken))
	require.NoError(t, err)
	require.Error(t, document.Validate(context.Background(), openapi3.EnableExamplesValidation()))
}

// What the page asks for is there, and comes from nowhere else.
func TestPageNeedsNothingElse(t *testing.T) {
	index := string(Index.Body)
	for _, m := range regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(index, -1) {
		assert.Contains(t, Assets, strings.TrimPrefix(m[1], "docs/"))
	}
	assert.NotContains(t, index, "://")
	assert.NotRegexp(t, `<script>|<style| on[a-z]+=| style=`, index, "the policy refuses what is written inside")
	entries, err := fs.ReadDir(page, "page")
	require.NoError(t, err)
	assert.Len(t, entries, 2)
}
