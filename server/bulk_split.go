package server

import (
	"bytes"
	"encoding/json"
)

// The two forms of a bulk request.
const mediaNDJSON = "application/x-ndjson"

const blank = " \t\r\n"

// splitArray returns the elements of a JSON array as parts of doc, at most limit+1 of them, and does not decode them.
// ok is false for anything but one JSON array: the ends of its elements would be a guess.
func splitArray(doc []byte, limit int) (items [][]byte, ok bool) {
	doc = bytes.Trim(doc, blank)
	if len(doc) == 0 || doc[0] != '[' || !json.Valid(doc) {
		return nil, false
	}
	depth, start, quoted := 0, 1, false
	for i := 1; i < len(doc) && len(items) <= limit; i++ {
		switch c := doc[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
		case depth > 0 && (c == '}' || c == ']'):
			depth--
		case depth == 0 && (c == ',' || c == ']'):
			items = appendItem(items, doc[start:i])
			start = i + 1
		}
	}
	return items, true
}

// splitLines returns the lines of doc that are not blank, at most limit+1 of them.
func splitLines(doc []byte, limit int) (items [][]byte) {
	for len(doc) > 0 && len(items) <= limit {
		var line []byte
		line, doc, _ = bytes.Cut(doc, []byte{'\n'})
		items = appendItem(items, line)
	}
	return items
}

func appendItem(items [][]byte, item []byte) [][]byte {
	if item = bytes.Trim(item, blank); len(item) == 0 {
		return items
	}
	return append(items, item)
}
