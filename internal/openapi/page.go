package openapi

import (
	"embed"
	"fmt"
	"io/fs"

	"github.com/swaggest/swgui/v5/static"
)

// ContentSecurityPolicy is what the page may do: run its own scripts and call the service that it came from, nothing
// else. Swagger UI draws its icons from data: addresses in its style sheet.
const ContentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

//go:embed page
var page embed.FS

// File is a part of the page.
type File struct {
	Media string // of Content-Type
	Body  []byte
	Gzip  bool // Body is compressed
}

// Index is the page, and Assets are its other parts by name. The scripts and the style sheet are those of Swagger UI,
// from a module that keeps them compressed.
var (
	Index  = File{"text/html; charset=utf-8", must(page, "page/index.html"), false}
	Assets = map[string]File{
		"init.js":              {"text/javascript; charset=utf-8", must(page, "page/init.js"), false},
		"swagger-ui-bundle.js": {"text/javascript; charset=utf-8", must(static.FS, "swagger-ui-bundle.js.gz"), true},
		"swagger-ui.css":       {"text/css; charset=utf-8", must(static.FS, "swagger-ui.css.gz"), true},
		"favicon-32x32.png":    {"image/png", must(static.FS, "favicon-32x32.png"), false},
	}
)

func must(files fs.FS, name string) []byte {
	body, err := fs.ReadFile(files, name)
	if err != nil {
		panic(fmt.Sprintf("%s is not in the binary: %v", name, err))
	}
	return body
}
