package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// heading starts a section.
const heading = "\n## "

// stageSections are replaced together with the head, by a run that measures stages; other sections one by one.
var stageSections = []string{"", "Stages and their limits", "What binds", "What a trade costs"}

// write writes the report and the charts into a folder. It keeps sections of an old report that this run did not
// measure.
func (r *results) write(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("cannot make the folder of the results: %w", err)
	}
	path := filepath.Join(folder, "RESULTS.md")
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot read the results of before: %w", err)
	}
	files := map[string][]byte{path: []byte(merge(string(old), string(r.markdown())))}
	if len(r.rows) > 0 {
		chart, err := svg("Each stage, as a share of its limit",
			"dashed: the limit, in the same rounds; line: lowest to highest round", r.rows)
		if err != nil {
			return err
		}
		files[filepath.Join(folder, "results.svg")] = chart
	}
	if len(r.scaling) > 0 {
		chart, err := svg("Rates by what is varied, one thing at a time",
			"dashed: nothing varied; line: lowest to highest round", r.scaling)
		if err != nil {
			return err
		}
		files[filepath.Join(folder, "scaling.svg")] = chart
	}
	for path, content := range files {
		if err := os.WriteFile(path, content, 0o644); err != nil { //nolint:gosec // to be read by everyone
			return fmt.Errorf("cannot write the results: %w", err)
		}
	}
	return nil
}

// section is a part of a report up to the next heading. The head is first and has no name.
type section struct{ name, text string }

func sections(report string) (all []section) {
	for i, text := range strings.Split(report, heading) {
		name := ""
		if i > 0 {
			name, _, _ = strings.Cut(text, "\n")
			text = heading + text
		}
		all = append(all, section{name, text})
	}
	return all
}

// merge returns the new report, plus the parts of the old one that are not in it.
func merge(old, report string) string {
	if old == "" {
		return report
	}
	fresh, kept := sections(report), sections(old)
	find := func(all []section, name string) int {
		return slices.IndexFunc(all, func(s section) bool { return s.name == name })
	}
	ofStage := func(s section) bool { return slices.Contains(stageSections, s.name) }
	if find(fresh, stageSections[1]) >= 0 {
		kept = slices.DeleteFunc(kept, ofStage)
	} else {
		fresh = slices.DeleteFunc(fresh, ofStage)
	}
	for _, s := range fresh {
		i := find(kept, s.name)
		switch {
		case i < 0:
			kept = append(kept, s)
		case s.name == "Goals":
			kept[i].text = mergeRows(kept[i].text, s.text)
		default:
			kept[i] = s
		}
	}
	order := append(slices.Clone(stageSections), "Goals", "Scaling") // other sections were written by hand
	slices.SortStableFunc(kept, func(a, b section) int { return rank(order, a.name) - rank(order, b.name) })
	var b strings.Builder
	for _, s := range kept {
		b.WriteString(strings.TrimRight(s.text, "\n") + "\n")
	}
	return b.String()
}

func rank(order []string, name string) int {
	if i := slices.Index(order, name); i >= 0 {
		return i
	}
	return len(order)
}

// mergeRows returns the new text with the rows of the old table, in its order; new rows replace old ones with the same
// first cell.
func mergeRows(old, text string) string {
	before, rows := table(text)
	_, all := table(old)
	for _, row := range rows {
		same := func(other string) bool { return figureCell(other) == figureCell(row) }
		if i := slices.IndexFunc(all, same); i >= 0 {
			all[i] = row
		} else {
			all = append(all, row)
		}
	}
	return before + strings.Join(all, "")
}

// table returns the text before the first row of its table, and the rows.
func table(text string) (before string, rows []string) {
	at := strings.Index(text, "|\n|---")
	if at < 0 {
		return text, nil
	}
	begin := at + 2 + strings.IndexByte(text[at+2:], '\n') + 1
	for line := range strings.Lines(text[begin:]) {
		if strings.HasPrefix(line, "|") {
			rows = append(rows, strings.TrimRight(line, "\n")+"\n")
		}
	}
	return text[:begin], rows
}

func figureCell(row string) string {
	cell, _, _ := strings.Cut(strings.TrimPrefix(row, "|"), "|")
	return strings.TrimSpace(cell)
}
