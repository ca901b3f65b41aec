package server

import "bytes"

// maxPreferSeconds replaces any longer wait.
const maxPreferSeconds = 1_000_000

// prefer reads the preference wait from one Prefer field (RFC 7240). Of several, in one field or in many, the first
// counts. Other preferences are ignored, like one that is not a number of seconds and anything outside the grammar: a
// preference never makes a request fail.
func (h *head) prefer(field []byte) {
	p := preferences{field}
	for {
		p.space()
		if p.skip(',') { // an empty element of a list is allowed (RFC 9110, section 5.6.1)
			continue
		}
		name, value, ok := p.pair()
		if !ok || !p.parameters() {
			return
		}
		if is(name, "wait") && !h.waitSeen {
			h.waitSeen = true
			h.wait = deltaSeconds(value)
		}
	}
}

// deltaSeconds reads delta-seconds, 1*DIGIT; 0 for anything else.
func deltaSeconds(value []byte) (n int) {
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0
		}
		n = min(n*10+int(c-'0'), maxPreferSeconds)
	}
	return n
}

// preferences is the unread rest of a field.
type preferences struct{ rest []byte }

// pair reads token [ BWS "=" BWS word ]. A quoted string keeps its quotes, so it is not a number.
func (p *preferences) pair() (name, value []byte, ok bool) {
	if name = p.token(); len(name) == 0 {
		return nil, nil, false
	}
	p.space()
	if !p.skip('=') {
		return name, nil, true
	}
	p.space()
	if len(p.rest) > 0 && p.rest[0] == '"' {
		value, ok = p.quoted()
		return name, value, ok
	}
	return name, p.token(), true // an empty value is no value
}

// parameters skips *( OWS ";" [ OWS parameter ] ) and says whether the element ends there.
func (p *preferences) parameters() bool {
	for p.space(); p.skip(';'); p.space() {
		p.space()
		if len(p.rest) > 0 && p.rest[0] != ';' && p.rest[0] != ',' {
			if _, _, ok := p.pair(); !ok {
				return false
			}
		}
	}
	return len(p.rest) == 0 || p.rest[0] == ','
}

func (p *preferences) space() { p.rest = bytes.TrimLeft(p.rest, " \t") }

// skip skips the byte c and says whether it was there.
func (p *preferences) skip(c byte) bool {
	if len(p.rest) == 0 || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *preferences) token() []byte {
	n := 0
	for n < len(p.rest) && isTokenByte(p.rest[n]) {
		n++
	}
	token := p.rest[:n]
	p.rest = p.rest[n:]
	return token
}

// quoted reads a quoted-string, which may hold commas and escaped quotes.
func (p *preferences) quoted() (text []byte, ok bool) {
	for i := 1; i < len(p.rest); i++ {
		switch p.rest[i] {
		case '\\':
			i++
		case '"':
			text, p.rest = p.rest[:i+1], p.rest[i+1:]
			return text, true
		}
	}
	return nil, false
}

// isTokenByte says whether c is a tchar (RFC 9110, section 5.6.2).
func isTokenByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0
}
