package loadtest

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// table aligns text in columns: from column right on to the right, from column left on to the left again.
type table struct {
	head        []string
	right, left int // left 0: never
	rows        [][]string
	tints       []func(string) string // of the first cell of each row; nil: none
}

func (t *table) add(tint func(string) string, cells ...string) {
	for i, c := range cells {
		cells[i] = plain(c)
	}
	t.rows, t.tints = append(t.rows, cells), append(t.tints, tint)
}

// print writes the table under its bold head, or nothing if it has no rows.
func (t *table) print(w io.Writer, p paint) {
	if len(t.rows) == 0 {
		return
	}
	widths := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, cell := range row {
			if t.left == 0 || i < t.left {
				widths[i] = max(widths[i], utf8.RuneCountInString(cell))
			}
		}
	}
	fmt.Fprintln(w)
	t.line(w, "", widths, t.head, p.bold, p.faint)
	for n, row := range t.rows {
		t.line(w, "  ", widths, row, t.tints[n], nil)
	}
}

// line writes one row. The head starts two columns further left than the rows.
func (t *table) line(w io.Writer, indent string, widths []int, row []string, first, others func(string) string) {
	var b strings.Builder
	b.WriteString(indent)
	for i, cell := range row {
		width := widths[i]
		if i == 0 {
			width += 2 - len(indent)
		} else {
			b.WriteString("  ")
		}
		space := strings.Repeat(" ", max(0, width-utf8.RuneCountInString(cell)))
		tint := others
		if i == 0 {
			tint = first
		}
		text := cell
		if tint != nil && cell != "" {
			text = tint(cell)
		}
		if i >= t.right && (t.left == 0 || i < t.left) {
			b.WriteString(space + text)
		} else {
			b.WriteString(text + space)
		}
	}
	fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
}
