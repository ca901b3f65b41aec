package trade

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// scanner reads one flat JSON object member by member, strictly by the grammar of RFC 8259. JSON decoders are lenient
// in different ways (case of names, repeated names, bad UTF-8, bytes after the end), and each leniency would let two
// readers of one log record disagree (rule B1). It keeps nothing and copies nothing.
//
//	for s.next() { use s.name, s.value }
//	if s.fault != "" { the document is no flat object; s.at says where }
type scanner struct {
	doc   []byte
	at    int // the next byte to read; where the fault is once there is one
	name  token
	value token
	fault string // what is wrong or was expected at doc[at]
}

// token is a name or a value, as bytes of the document.
type token struct {
	raw     []byte // a string with its quotes
	kind    kind
	escaped bool // a string with a backslash: raw does not spell it literally
	spoilt  bool // a string with an escape that is valid JSON but not valid text: NUL or half a surrogate pair
}

type kind uint8

const (
	stringKind kind = iota
	numberKind
	boolKind
	nullKind
)

// next moves to the next member. It is false at the end of a good document and at the first fault.
func (s *scanner) next() bool {
	switch {
	case s.at == 0:
		if !s.accept('{') {
			return s.fail("one flat JSON object is expected, beginning with {")
		}
		if s.accept('}') {
			return s.end()
		}
	case s.accept('}'):
		return s.end()
	case !s.accept(','):
		return s.fail("a comma or } is expected")
	}
	if !s.accept('"') {
		return s.fail("a field name in double quotes is expected")
	}
	if !s.readString(&s.name) {
		return false
	}
	if !s.accept(':') {
		return s.fail("a colon is expected")
	}
	return s.readValue()
}

// end is reached after the closing brace.
func (s *scanner) end() bool {
	if s.skipSpace(); s.at < len(s.doc) {
		s.fail("nothing may follow the object")
	}
	return false
}

// fail records the first fault, at the byte that comes next.
func (s *scanner) fail(fault string) bool {
	s.fault = fault
	return false
}

func (s *scanner) skipSpace() {
	for s.at < len(s.doc) {
		switch s.doc[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

// accept skips white space and then c, if that is what comes.
func (s *scanner) accept(c byte) bool {
	s.skipSpace()
	return s.take(c)
}

func (s *scanner) take(c byte) bool {
	if s.at < len(s.doc) && s.doc[s.at] == c {
		s.at++
		return true
	}
	return false
}

func (s *scanner) readValue() bool {
	if s.accept('"') {
		return s.readString(&s.value)
	}
	if s.at == len(s.doc) {
		return s.fail("a value is expected")
	}
	switch c := s.doc[s.at]; {
	case c == '-' || c >= '0' && c <= '9':
		return s.readNumber()
	case c == '{' || c == '[':
		return s.fail("a trade is flat: no object or array as a value")
	}
	for _, w := range words {
		if bytes.HasPrefix(s.doc[s.at:], w.raw) {
			s.value = w
			s.at += len(w.raw)
			return true
		}
	}
	return s.fail("a string or a number is expected")
}

var words = [...]token{
	{kind: nullKind, raw: []byte("null")},
	{kind: boolKind, raw: []byte("true")},
	{kind: boolKind, raw: []byte("false")},
}

// readNumber reads a number of the grammar. Which numbers are a version, setVersion decides.
func (s *scanner) readNumber() bool {
	start := s.at
	s.take('-')
	if s.take('0') {
		if s.digits() {
			return s.fail("a number has no leading zero")
		}
	} else if !s.digits() {
		return s.fail("a digit is expected")
	}
	if s.take('.') && !s.digits() {
		return s.fail("a digit is expected")
	}
	if s.take('e') || s.take('E') {
		if !s.take('+') {
			s.take('-')
		}
		if !s.digits() {
			return s.fail("a digit is expected")
		}
	}
	s.value = token{kind: numberKind, raw: s.doc[start:s.at]}
	return true
}

// digits skips a run of digits and says whether there was one.
func (s *scanner) digits() bool {
	start := s.at
	for s.at < len(s.doc) && s.doc[s.at] >= '0' && s.doc[s.at] <= '9' {
		s.at++
	}
	return s.at > start
}

// readString reads a string into t; its opening quote has been read.
func (s *scanner) readString(t *token) bool {
	start := s.at - 1
	*t = token{kind: stringKind}
	for s.at < len(s.doc) {
		switch c := s.doc[s.at]; {
		case c == '"':
			s.at++
			t.raw = s.doc[start:s.at]
			return true
		case c == '\\':
			t.escaped = true
			if !s.readEscape(t) {
				return false
			}
		case c < ' ':
			return s.fail("a control character is not allowed in a string")
		case c < utf8.RuneSelf:
			s.at++
		default:
			r, size := utf8.DecodeRune(s.doc[s.at:])
			if r == utf8.RuneError && size == 1 {
				return s.fail("the bytes are not valid UTF-8")
			}
			s.at += size
		}
	}
	return s.fail("the string has no end")
}

// readEscape reads from a backslash to the end of the escape, of both halves when it is a surrogate pair.
func (s *scanner) readEscape(t *token) bool {
	s.at++
	if s.at == len(s.doc) {
		return s.fail("the string has no end")
	}
	switch s.doc[s.at] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.at++
		return true
	case 'u':
	default:
		return s.fail("no such escape")
	}
	r, ok := hex4(s.doc[s.at+1:])
	if !ok {
		return s.fail("four hexadecimal digits are expected after \\u")
	}
	s.at += 5
	if !utf16.IsSurrogate(r) {
		t.spoilt = t.spoilt || r == 0
		return true
	}
	if bytes.HasPrefix(s.doc[s.at:], []byte(`\u`)) {
		low, ok := hex4(s.doc[s.at+2:])
		if ok && utf16.DecodeRune(r, low) != utf8.RuneError {
			s.at += 6
			return true
		}
	}
	t.spoilt = true // half a pair: what follows it is read by itself
	return true
}

// hex4 reads the four hexadecimal digits that b begins with.
func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
