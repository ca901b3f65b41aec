package cmd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf8"

	"tradestore/trade"
)

// printable escapes what a terminal would act on or not show: control characters, changes of direction, broken UTF-8.
func printable(s string) string {
	if strings.IndexFunc(s, hidden) < 0 {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case !hidden(r):
			b.WriteRune(r)
		case r == utf8.RuneError:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		default:
			b.WriteString(escape(r))
		}
	}
	return b.String()
}

func hidden(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }

// escape writes r as JSON does.
func escape(r rune) string {
	if r > 0xffff {
		r -= 0x10000
		return fmt.Sprintf(`\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
	}
	return fmt.Sprintf(`\u%04x`, r)
}

// writeJSON writes v as one document in pure visible text: encoding/json leaves characters in strings that a terminal
// acts on. A json.RawMessage keeps all members in their order.
func writeJSON(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, text, "", "  "); err != nil {
		return err
	}
	_, err = io.WriteString(w, printableJSON(indented.String())+"\n")
	return err
}

// printableJSON escapes what is hidden in the strings of a JSON document: outside of them it is ASCII.
func printableJSON(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r != '\n' && hidden(r) {
			b.WriteString(escape(r))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

const (
	green  = "32"
	red    = "31"
	yellow = "33"
)

// paint colours a word, if there is one and the output has colours.
func (p *process) paint(colour, word string) string {
	if !p.colour || word == "" {
		return word
	}
	return "\x1b[" + colour + "m" + word + "\x1b[0m"
}

// paintStatus shows the status of a request.
func (p *process) paintStatus(s trade.Status) string {
	colour := yellow
	switch s {
	case trade.Success:
		colour = green
	case trade.Failed:
		colour = red
	default: // PENDING
	}
	return p.paint(colour, printable(string(s)))
}

// tabulate returns a writer that aligns columns, which tabs separate. Flush writes them.
func tabulate(out io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(out, 0, 0, 2, ' ', 0) }

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
