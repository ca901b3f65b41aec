package server

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/valyala/fasthttp"
)

// tagOf returns the entity tag of a document: part of its hash, so it is the same on every server.
func tagOf(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
}

// validated answers 200 with a document and its strong entity tag, or 304 if the client has the same document
// (RFC 9110, sections 8.8.3 and 13.1.2). A cache may keep it, but must ask before each use.
func (c *call) validated(body []byte) {
	tag := tagOf(body)
	header := &c.ctx.Response.Header
	header.Set(fasthttp.HeaderETag, tag)
	header.Set(headerCacheControl, "no-cache")
	if hasTag(c.head.ifNoneMatch, tag) {
		c.ctx.SetStatusCode(fasthttp.StatusNotModified)
		return
	}
	c.json(fasthttp.StatusOK, body)
}

// hasTag says whether If-None-Match has the entity tag, by weak comparison as RFC 9110 demands. A list is read up to
// its first error.
func hasTag(list, tag string) bool {
	if strings.Trim(list, " \t") == "*" {
		return true
	}
	for {
		list = strings.TrimLeft(list, ", \t")
		list = strings.TrimPrefix(list, "W/")
		if !strings.HasPrefix(list, `"`) {
			return false
		}
		end := strings.IndexByte(list[1:], '"')
		if end < 0 {
			return false
		}
		if list[:end+2] == tag {
			return true
		}
		list = list[end+2:]
	}
}
