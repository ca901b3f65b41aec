package loadtest

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// asCount writes a count with commas: 60,000.
func asCount(n uint64) string {
	digits := strconv.FormatUint(n, 10)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// asNumber writes a figure with about three significant digits.
func asNumber(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "?"
	case a >= 100, v == math.Trunc(v):
		if v < 0 {
			return "-" + asCount(uint64(math.Round(a)))
		}
		return asCount(uint64(math.Round(a)))
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case a >= 0.01:
		return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 2, 64), ".00")
	default:
		return strconv.FormatFloat(v, 'g', 2, 64)
	}
}

// asSeconds writes a duration in a readable unit: 850 µs, 12.3 ms, 4.50 s.
func asSeconds(s float64) string {
	switch a := math.Abs(s); {
	case a == 0:
		return "0 s"
	case a < 0.9995e-3:
		return asNumber(s*1e6) + " µs"
	case a < 0.9995:
		return asNumber(s*1e3) + " ms"
	default:
		return asNumber(s) + " s"
	}
}

// asTook writes the duration of a phase: 210 ms, 12.3 s, 1m12s.
func asTook(s float64) string {
	if s < 60 {
		return asSeconds(s)
	}
	return time.Duration(s * float64(time.Second)).Round(time.Second).String()
}

// asShare writes a share as percent. It writes 0 % and 100 % only for exactly 0 and 1.
func asShare(f float64) string {
	if f == 0 || f == 1 {
		return asNumber(f*100) + " %"
	}
	for digits := 1; digits <= 6; digits++ {
		if text := strconv.FormatFloat(f*100, 'f', digits, 64); strings.Trim(text, "0.") != "" && !strings.HasPrefix(text,
			"100.") {
			return text + " %"
		}
	}
	return asNumber(f*100) + " %"
}

// asAmount writes a value of a Series with its unit.
func asAmount(v float64, unit string) string {
	switch unit {
	case "seconds":
		return asSeconds(v)
	case "bytes":
		if v >= 1<<30 {
			return asNumber(v/(1<<30)) + " GiB"
		}
		return asNumber(v/(1<<20)) + " MiB"
	default:
		return asNumber(v) + " " + unit
	}
}

// plain makes foreign text safe for a terminal: it escapes what is not printable.
func plain(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
		return s
	}
	quoted := strconv.Quote(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// markdown is plain for a line of Markdown: the text cannot end the line, open a tag or a link, or split a table.
func markdown(s string) string {
	var b strings.Builder
	for _, r := range plain(s) {
		if strings.ContainsRune("\\`*_[]<>|&#~!@", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// bare are the bytes that need no quotes in a shell.
const bare = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=.,:/@%"

// shell quotes an argument where it needs that.
func shell(arg string) string {
	if strings.Trim(arg, bare) == "" {
		return arg
	}
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
}

// plural writes a count and its noun: 1 row, 2 rows.
func plural(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%s %s", asCount(n), many)
}

// capital returns the word with a capital letter.
func capital(word string) string {
	_, size := utf8.DecodeRuneInString(word)
	return strings.ToUpper(word[:size]) + word[size:]
}
