package cmd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Env is what a command has of the process it runs in.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Colour         bool // in Stdout
	Live           bool // Stderr is a terminal: progress may draw over itself
}

// Exit codes beside 0, done.
const (
	exitNo      = 1 // the answer is known, and it is no: refused, FAILED
	exitUnknown = 3 // not known yet: PENDING, unfinished, or the service does not answer. Asking again may help
	exitMissing = 4 // the service knows no such request or trade
)

// ExitHelp explains the exit codes that the commands have in common.
const ExitHelp = "Exit codes: 0 yes; 1 no: refused or FAILED; 2 a mistake in the flags; 3 not known yet: PENDING, unfinished, or no answer; 4 the service knows no such thing."

// Exit ends the process with a code of its own.
type Exit struct {
	Code int
	Err  error // nil: the reader has been told
}

func (e *Exit) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return Clean(e.Err.Error())
}

func (e *Exit) Unwrap() error { return e.Err }

// noAnswer is the end of a command that could not learn what it asked for.
func noAnswer(url string, err error) error {
	if errors.Is(err, errAnswer) {
		return &Exit{exitUnknown, fmt.Errorf("%s: %w (--url)", url, err)}
	}
	return &Exit{exitUnknown, fmt.Errorf("no answer: %w (--url %s)", err, url)}
}

// Clean writes out what a terminal would act on or not show: control characters, changes of direction, broken UTF-8.
func Clean(s string) string {
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

// writeJSON writes v as one document in pure visible text: encoding/json leaves characters in strings that a terminal acts
// on. A json.RawMessage keeps all members in their order.
func writeJSON(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, text, "", "  "); err != nil {
		return err
	}
	_, err = io.WriteString(w, visible(indented.String())+"\n")
	return err
}

// visible escapes what is hidden in the strings of a JSON document: outside of them it is ASCII.
func visible(text string) string {
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
func (e *Env) paint(colour, word string) string {
	if !e.Colour || word == "" {
		return word
	}
	return "\x1b[" + colour + "m" + word + "\x1b[0m"
}

// paintStatus shows the status of a request.
func (e *Env) paintStatus(s status) string {
	colour := yellow
	switch s {
	case success:
		colour = green
	case failed:
		colour = red
	default: // PENDING
	}
	return e.paint(colour, Clean(string(s)))
}
