package server

import (
	"github.com/valyala/fasthttp"

	"tradestore/internal/openapi"
)

// document is content that does not change while the process runs.
type document struct {
	openapi.File
	etag string
}

func newDocument(file openapi.File) document { return document{file, tagOf(file.Body)} }

// docs registers the description of the API and the page that shows it.
func (s *Server) docs() map[string]func(*call) {
	serve := func(d document) func(*call) { return func(c *call) { c.document(d) } }
	assets := make(map[string]document, len(openapi.Assets))
	for name, file := range openapi.Assets {
		assets[name] = newDocument(file)
	}
	return map[string]func(*call){
		"/openapi.yaml": serve(newDocument(openapi.File{Media: "application/yaml", Body: openapi.YAML})),
		"/openapi.json": serve(newDocument(openapi.File{Media: mediaJSON, Body: openapi.JSON()})),
		"/docs":         serve(newDocument(openapi.Index)),
		"/docs/{asset}": func(c *call) {
			d, ok := assets[c.param("asset")]
			if !ok {
				c.refuse(problem{code: NotFound, detail: "the page has no such part"})
				return
			}
			c.document(d)
		},
	}
}

// document answers with d, or 304 if the client has it.
func (c *call) document(d document) {
	header := &c.ctx.Response.Header
	header.Set(fasthttp.HeaderETag, "W/"+d.etag) // weak: the same for the compressed form
	header.Set(headerCacheControl, "no-cache")   // keep it, but ask before each use
	header.Set(fasthttp.HeaderVary, fasthttp.HeaderAcceptEncoding)
	header.Set(fasthttp.HeaderXContentTypeOptions, "nosniff")
	header.Set(fasthttp.HeaderContentSecurityPolicy, openapi.ContentSecurityPolicy)
	if hasTag(c.head.ifNoneMatch, d.etag) {
		c.ctx.SetStatusCode(fasthttp.StatusNotModified)
		return
	}
	c.ctx.SetContentType(d.Media)
	c.ctx.Response.SetBodyRaw(d.Body)
	if !d.Gzip {
		return
	}
	header.SetContentEncoding("gzip")
	if c.ctx.Request.Header.HasAcceptEncoding("gzip") {
		return
	}
	body, err := c.ctx.Response.BodyGunzip() // rare: every browser takes gzip
	if err != nil {
		c.refuse(problem{code: Internal, detail: "cannot unpack the document"})
		return
	}
	header.SetContentEncoding("")
	c.ctx.Response.SetBodyRaw(body)
}
