// Package contract checks exchanges against the description of the API. Tests alone use it.
//
// kin-openapi checks the description itself, examples included. The exchanges are checked here, with the JSON Schema
// validator below kin-openapi: its own filter compiles every schema anew for every exchange, which costs milliseconds
// where a load test makes ten thousand.
package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"tradestore/internal/openapi"
)

// Contract is the description, compiled. It may be used concurrently.
type Contract struct {
	operations []*Operation
	problem    *jsonschema.Schema // of answers that belong to no operation
}

// Operation is one method of one path.
type Operation struct {
	Method, Path string
	Statuses     []string // that are described, "default" among them

	steps     []string // of Path
	request   map[string]*jsonschema.Schema
	params    []value
	responses map[string]response
}

// value is a parameter or a header.
type value struct {
	name, in string
	required bool
	bare     bool // written as in JSON: a number or a boolean
	schema   *jsonschema.Schema
}

type response struct {
	headers []value
	content map[string]*jsonschema.Schema // by media type; nil: any content
}

// Exchange is a request and its answer. Body and Answer are whole, or nil where they are not to be checked.
type Exchange struct {
	Method, Target string // Target is the path with the query
	Header         http.Header
	Body           []byte
	Status         int
	AnswerHeader   http.Header
	Answer         []byte
}

// Operations returns what is described, by path and method.
func (c *Contract) Operations() []*Operation { return c.operations }

// Load returns the contract of this build.
var Load = sync.OnceValues(func() (*Contract, error) { return compile(openapi.JSON()) })

// Find returns the operation of a request, nil if none is described.
func (c *Contract) Find(method, path string) *Operation {
	op, _ := c.find(method, path)
	return op
}

func (c *Contract) find(method, path string) (*Operation, map[string]string) {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	steps := strings.Split(path, "/")
	for _, op := range c.operations {
		if op.Method != method || len(op.steps) != len(steps) {
			continue
		}
		params := map[string]string{}
		for i, step := range op.steps {
			if name, ok := strings.CutPrefix(step, "{"); ok && steps[i] != "" {
				params[strings.TrimSuffix(name, "}")] = steps[i]
			} else if step != steps[i] {
				params = nil
				break
			}
		}
		if params != nil {
			return op, params
		}
	}
	return nil, nil
}

// Check returns an error if an exchange breaks the description: an answer that is not described, or a success for a
// request that should have been refused.
func (c *Contract) Check(x *Exchange) error {
	path, query, _ := strings.Cut(x.Target, "?")
	op, params := c.find(x.Method, path)
	if op == nil { // no such path or method, or a message that can't be read
		return check(c.problem, x.Answer, x, x.Status >= 400 && mediaOf(x.AnswerHeader) == "application/problem+json")
	}
	described, ok := op.responses[strconv.Itoa(x.Status)]
	if !ok {
		if described, ok = op.responses["default"]; !ok || x.Status < 400 {
			return fmt.Errorf("%s %s: status %d is not described", x.Method, op.Path, x.Status)
		}
	}
	mistakes := []error{op.answer(x, described)}
	if x.Status < 300 {
		mistakes = append(mistakes, op.asked(x, params, query))
	}
	return errors.Join(mistakes...)
}

// answer checks headers and body of an answer.
func (op *Operation) answer(x *Exchange, described response) error {
	for _, h := range described.headers {
		if err := h.check(x.AnswerHeader.Values(h.name)); err != nil {
			return fmt.Errorf("%s %s: %d: header %w", x.Method, op.Path, x.Status, err)
		}
	}
	if len(described.content) == 0 || x.Method == http.MethodHead {
		if len(x.Answer) > 0 {
			return fmt.Errorf("%s %s: %d has a body", x.Method, op.Path, x.Status)
		}
		return nil
	}
	schema, ok := described.content[mediaOf(x.AnswerHeader)]
	return check(schema, x.Answer, x, ok)
}

// asked checks a request that was granted.
func (op *Operation) asked(x *Exchange, params map[string]string, rawQuery string) error {
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return fmt.Errorf("%s %s: granted with a query that can't be read: %w", x.Method, op.Path, err)
	}
	for _, p := range op.params {
		var values []string
		switch p.in {
		case "path":
			values = []string{params[p.name]}
		case "query":
			values = query[p.name]
			delete(query, p.name)
		case "header":
			values = x.Header.Values(p.name)
		}
		if err := p.check(values); err != nil {
			return fmt.Errorf("%s %s: granted with %s %w", x.Method, op.Path, p.in, err)
		}
	}
	if len(query) > 0 && strings.HasPrefix(op.Path, "/api/") {
		return fmt.Errorf("%s %s: granted with a query that is not described: %s", x.Method, op.Path, rawQuery)
	}
	if op.request == nil {
		return nil
	}
	schema, ok := op.request[mediaOf(x.Header)]
	if err := check(schema, x.Body, x, ok); err != nil {
		return fmt.Errorf("granted, but for the request: %w", err)
	}
	return nil
}

func (v *value) check(values []string) error {
	if len(values) == 0 && v.required {
		return fmt.Errorf("%s is missing", v.name)
	}
	for _, text := range values {
		var decoded any = text
		if bare, err := jsonschema.UnmarshalJSON(strings.NewReader(text)); v.bare && err == nil {
			decoded = bare
		}
		if err := v.schema.Validate(decoded); err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
	}
	return nil
}

// check validates a body against the schema of its media type. Without one of them nothing is checked.
func check(schema *jsonschema.Schema, body []byte, x *Exchange, described bool) error {
	if !described {
		return fmt.Errorf("%s %s: %d with media type %q is not described",
			x.Method, x.Target, x.Status, mediaOf(x.AnswerHeader))
	}
	if schema == nil || body == nil || x.Method == http.MethodHead {
		return nil
	}
	decoded, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err == nil {
		err = schema.Validate(decoded)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %d: %.1000s\n%.1000s", x.Method, x.Target, x.Status, err.Error(), body)
	}
	return nil
}

func mediaOf(header http.Header) string {
	media, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	return media
}

// IsJSON says whether a body of this media type is one JSON document.
func IsJSON(header http.Header) bool {
	media := mediaOf(header)
	return media == "application/json" || strings.HasSuffix(media, "+json")
}

// compile reads a description that kin-openapi has found valid.
func compile(text []byte) (c *Contract, err error) {
	var document map[string]any
	if err := json.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	strict(document)
	r := &reader{document: document, compiler: jsonschema.NewCompiler()}
	r.compiler.DefaultDraft(jsonschema.Draft2020)
	r.compiler.AssertFormat()
	if err := r.compiler.AddResource(resource, document); err != nil {
		return nil, err
	}
	c = &Contract{problem: r.schema("/components/schemas/Problem")}
	root := object{document, ""}
	for path := range root.node["paths"].(map[string]any) {
		item := r.at(root, "paths", path)
		for method := range item.node {
			c.operations = append(c.operations, r.operation(r.at(item, method), method, path))
		}
	}
	slices.SortFunc(c.operations, func(a, b *Operation) int {
		return strings.Compare(a.Path+" "+a.Method, b.Path+" "+b.Method)
	})
	return c, r.err
}

// strict forbids members that are not described. Clients must accept new members, but here each one must be described.
func strict(node any) {
	switch node := node.(type) {
	case map[string]any:
		if node["type"] == "object" && node["properties"] != nil && node["additionalProperties"] == nil {
			node["additionalProperties"] = false
		}
		for _, child := range node {
			strict(child)
		}
	case []any:
		for _, child := range node {
			strict(child)
		}
	}
}
