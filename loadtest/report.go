package loadtest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// The files of a report.
const (
	pageFile    = "report.html"
	jsonFile    = "report.json"
	resultsFile = "results.bin"
	lineFile    = "line.md"
)

// Folder returns the folder below out for the report of a run that started then.
func Folder(out string, started time.Time) string {
	return filepath.Join(out, started.UTC().Format("2006-01-02T150405Z"))
}

// Write writes the report into the new folder dir and sets r.Folder: report.html, report.json, line.md for a pull
// request, and results.bin in the format of vegeta. The folder gets its name when all files are on disk: a crash leaves
// a folder with a dot name, never half a report. If the name is taken by a run of the same second, Write appends a
// number.
func Write(dir string, r *Report, results *Results) error {
	dropUnwritable(r.Series)
	text, err := r.JSON()
	if err != nil {
		return err
	}
	html, err := writeHTML(r)
	if err != nil {
		return err
	}
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return fmt.Errorf("cannot make the folder of reports (--out): %w", err)
	}
	part, err := os.MkdirTemp(parent, ".unfinished-")
	if err != nil {
		return fmt.Errorf("cannot make a folder for the report (--out): %w", err)
	}
	defer func() { _ = os.RemoveAll(part) }()     // no longer there when all went well
	if err := os.Chmod(part, 0o755); err != nil { //nolint:gosec // a report is there to be shown
		return fmt.Errorf("cannot open the folder of the report to others: %w", err)
	}
	for _, f := range []struct {
		name  string
		write func(io.Writer) error
	}{
		{pageFile, bytesTo(html)},
		{jsonFile, bytesTo(text)},
		{lineFile, bytesTo([]byte(r.Line() + "\n"))},
		{resultsFile, func(w io.Writer) error { return writeVegeta(w, results.All(), results.Began(), r.Load.Warmup) }},
	} {
		if err := writeFile(filepath.Join(part, f.name), f.write); err != nil {
			return err
		}
	}
	r.Folder, err = rename(part, dir)
	return err
}

// JSON is the content of report.json.
func (r *Report) JSON() ([]byte, error) {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return nil, fmt.Errorf("cannot write the report as JSON: %w", err)
	}
	return append(text, '\n'), nil
}

// dropUnwritable removes values that JSON cannot hold. Metrics of a server may be NaN.
func dropUnwritable(all []Series) {
	for i := range all {
		all[i].Points = slices.DeleteFunc(all[i].Points, func(s Sample) bool {
			return math.IsNaN(s.Value) || math.IsInf(s.Value, 0) || math.IsNaN(s.At) || math.IsInf(s.At, 0)
		})
	}
}

// writeVegeta writes the operations after the warm-up for `vegeta report` and `vegeta plot`. Time stamps are due times,
// and latencies count from them. The name of the attack is the kind.
func writeVegeta(w io.Writer, results iter.Seq[*Result], began time.Time, warmup float64) error {
	enc := vegeta.NewEncoder(w)
	from := time.Duration(math.Round(warmup * float64(time.Second)))
	for r := range results {
		if r.Due < from {
			continue
		}
		hit := r.Vegeta(began, r.Kind.String())
		if err := enc.Encode(&hit); err != nil {
			return err
		}
	}
	return nil
}

func bytesTo(content []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	}
}

// writeFile creates a file and returns when it is on disk.
func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // a report is there to be shown
	if err != nil {
		return fmt.Errorf("cannot make %s: %w", filepath.Base(path), err)
	}
	defer f.Close()
	b := bufio.NewWriterSize(f, 1<<16)
	if err := errors.Join(write(b), b.Flush(), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("cannot write %s: %w", filepath.Base(path), err)
	}
	return nil
}

// rename renames a folder to the first free name: dir, dir-2, dir-3.
func rename(from, dir string) (string, error) {
	for n := 1; ; n++ {
		to := dir
		if n > 1 {
			to += "-" + strconv.Itoa(n)
		}
		err := os.Rename(from, to)
		if err == nil {
			return to, nil
		}
		if _, missing := os.Lstat(to); missing != nil || n == 100 {
			return "", fmt.Errorf("cannot name the report: %w", err)
		}
	}
}
