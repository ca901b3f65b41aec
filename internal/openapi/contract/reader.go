package contract

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const resource = "https://tradestore/openapi.json" // what the compiler calls the document

// reader compiles parts of the document. The first error stays.
type reader struct {
	document map[string]any
	compiler *jsonschema.Compiler
	err      error
}

// object is an object of the document, and the JSON pointer to it.
type object struct {
	node    map[string]any
	pointer string
}

// at follows keys from an object, through references. An absent member is an object without a node.
func (r *reader) at(p object, keys ...string) object {
	for _, key := range keys {
		node, _ := p.node[key].(map[string]any)
		p = object{node, p.pointer + "/" + escape(key)}
		if target, ok := p.node["$ref"].(string); ok {
			p = r.at(object{r.document, ""}, strings.Split(strings.TrimPrefix(target, "#/"), "/")...)
		}
	}
	return p
}

var escaper = strings.NewReplacer("~", "~0", "/", "~1")

func escape(key string) string { return escaper.Replace(key) }

func (r *reader) schema(pointer string) *jsonschema.Schema {
	schema, err := r.compiler.Compile(resource + "#" + (&url.URL{Path: pointer}).EscapedPath())
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("cannot compile %s: %w", pointer, err)
	}
	return schema
}

// member returns the schema of an object, nil if it has none.
func (r *reader) member(p object) *jsonschema.Schema {
	if p.node["schema"] == nil {
		return nil
	}
	return r.schema(p.pointer + "/schema")
}

func (r *reader) operation(p object, method, path string) *Operation {
	op := &Operation{Method: strings.ToUpper(method), Path: path, steps: strings.Split(path, "/")}
	op.responses = map[string]response{}
	list, _ := p.node["parameters"].([]any)
	for i, node := range list {
		// An element of a list is read as if the list were an object.
		members := object{map[string]any{"0": node}, ""}
		param := r.at(members, "0")
		if param.pointer == "/0" {
			param.pointer = fmt.Sprintf("%s/parameters/%d", p.pointer, i)
		}
		name, _ := param.node["name"].(string)
		in, _ := param.node["in"].(string)
		v := r.value(param, name)
		v.in = in
		op.params = append(op.params, v)
	}
	if body := r.at(p, "requestBody"); body.node != nil {
		op.request = r.content(body)
	}
	responses := r.at(p, "responses")
	for status := range responses.node {
		op.Statuses = append(op.Statuses, status)
		answer := r.at(responses, status)
		headers := r.at(answer, "headers")
		described := response{content: r.content(answer)}
		for name := range headers.node {
			described.headers = append(described.headers, r.value(r.at(headers, name), name))
		}
		op.responses[status] = described
	}
	return op
}

func (r *reader) value(p object, name string) value {
	required, _ := p.node["required"].(bool)
	kind := r.at(p, "schema").node["type"]
	return value{name: name, required: required, bare: kind == "integer" || kind == "boolean", schema: r.member(p)}
}

func (r *reader) content(p object) map[string]*jsonschema.Schema {
	content := r.at(p, "content")
	schemas := map[string]*jsonschema.Schema{}
	for media := range content.node {
		schemas[media] = r.member(r.at(content, media))
	}
	return schemas
}
