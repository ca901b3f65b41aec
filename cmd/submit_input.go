package cmd

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// maxItem is the size of the longest trade that is read, in bytes: far more than the service takes. Longer ones would
// have to be held in memory only to be refused.
const maxItem = 256 << 10

// fields of a trade, as the header of a CSV file names them, in any order.
var fields = []string{"book_id", "counterparty_id", "created_date", "maturity_date", "trade_id", "version"}

// item is one trade of the input.
type item struct {
	line    int64  // where it begins, from 1; in a JSON document its place in the array
	body    []byte // JSON, as it is sent
	fault   string // why it can't be read; body is nil then
	tradeID string // empty if it names none: then it has no order to keep
	version int64  // 0 if it names none
}

// input reads trades one at a time, in the order of the file. What is read at once is bounded by maxItem.
type input struct {
	format string
	size   int64        // bytes, 0 if that is not known
	taken  atomic.Int64 // bytes so far
	left   int          // that may still be read for the item at hand
	from   *bufio.Reader
	next   func() (item, error) // io.EOF at the end; any other error means that the file could not be read
}

var (
	errFormat = errors.New("cannot tell whether this is JSON, NDJSON or CSV with a header of the six fields: " +
		"--format says it")
	errTooLong = fmt.Errorf("a trade of more than %d bytes", maxItem)
)

// openInput opens a file, or stdin for "-". With "auto" the ending of the name tells the format, else the first line.
func openInput(name, format string, stdin io.Reader) (*input, error) {
	in := &input{format: format}
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
			in.size = info.Size()
		}
		stdin = file
	}
	in.from = bufio.NewReaderSize(stdin, maxItem)
	if mark, err := in.from.Peek(3); err == nil && string(mark) == "\xef\xbb\xbf" { // spreadsheets begin UTF-8 with it
		_, _ = in.from.Discard(len(mark))
	}
	first := in.firstLine()
	if format == "auto" {
		endings := map[string]string{".json": "json", ".ndjson": "ndjson", ".jsonl": "ndjson", ".csv": "csv"}
		if in.format = endings[strings.ToLower(filepath.Ext(name))]; in.format == "" {
			in.format = sniff(first)
		}
	}
	switch in.format {
	case "json":
		in.next = in.json(len(first) > 0 && first[0] == '[')
	case "ndjson":
		in.next = in.lines()
	case "csv":
		var err error
		if in.next, err = in.csv(); err != nil {
			return nil, err
		}
	default:
		return nil, errFormat
	}
	return in, nil
}

// firstLine returns the first line that is not blank, without taking it: what there is of it within maxItem bytes.
func (in *input) firstLine() []byte {
	for n := 1; ; n = in.from.Buffered() + 1 {
		_, err := in.from.Peek(n)
		all, _ := in.from.Peek(in.from.Buffered())
		text := bytes.TrimLeft(all, " \t\r\n")
		if end := bytes.IndexByte(text, '\n'); end >= 0 {
			return bytes.TrimSpace(text[:end])
		}
		if err != nil {
			return bytes.TrimSpace(text)
		}
	}
}

// sniff tells the format from the first line, empty if that could be anything.
func sniff(first []byte) string {
	header := strings.Split(string(first), ",")
	slices.Sort(header)
	switch {
	case len(first) == 0:
		return "ndjson" // nothing at all
	case first[0] == '[', first[0] == '{' && !json.Valid(first):
		return "json"
	case first[0] == '{':
		return "ndjson"
	case slices.Equal(header, fields):
		return "csv"
	}
	return ""
}

// Read is how the decoders read: no more for one item than it may hold.
func (in *input) Read(p []byte) (int, error) {
	if in.left <= 0 {
		return 0, errTooLong
	}
	n, err := in.from.Read(p[:min(len(p), in.left)])
	in.left -= n
	in.taken.Add(int64(n))
	return n, err
}

// lines reads NDJSON. A line that is no JSON costs no other.
func (in *input) lines() func() (item, error) {
	line := int64(0)
	return func() (item, error) {
		for {
			text, err := in.from.ReadSlice('\n')
			in.taken.Add(int64(len(text)))
			line++
			switch {
			case errors.Is(err, bufio.ErrBufferFull):
				return item{line: line, fault: errTooLong.Error()}, in.skipLine()
			case err != nil && (len(text) == 0 || !errors.Is(err, io.EOF)):
				return item{}, err
			}
			if text = bytes.TrimSpace(text); len(text) > 0 {
				return newItem(line, text), nil
			}
		}
	}
}

// skipLine reads to the end of a line that is too long.
func (in *input) skipLine() error {
	for {
		text, err := in.from.ReadSlice('\n')
		in.taken.Add(int64(len(text)))
		if err == nil || errors.Is(err, io.EOF) {
			return nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

// json reads one value, one array of values, or values behind each other. What follows a mistake can't be read.
func (in *input) json(array bool) func() (item, error) {
	values := json.NewDecoder(in)
	place, ended := int64(0), false
	broken := func(err error) item {
		ended = true
		return item{line: place, fault: fmt.Sprintf("not readable as JSON from here on: %v", err)}
	}
	return func() (item, error) {
		in.left = maxItem
		place++
		if ended {
			return item{}, io.EOF
		}
		if array && place == 1 {
			_, _ = values.Token() // the bracket that was seen
		}
		if array && !values.More() {
			if _, err := values.Token(); err != nil {
				return broken(io.ErrUnexpectedEOF), nil
			}
			ended = true
			if _, err := values.Token(); !errors.Is(err, io.EOF) {
				return broken(errors.New("something follows the array")), nil
			}
			return item{}, io.EOF
		}
		var text json.RawMessage
		switch err := values.Decode(&text); {
		case errors.Is(err, io.EOF) && array:
			return broken(io.ErrUnexpectedEOF), nil
		case errors.Is(err, io.EOF):
			return item{}, io.EOF
		case err != nil:
			return broken(err), nil
		}
		return newItem(place, text), nil
	}
}

// newItem takes a copy of text. Order is kept by the trade id as the service reads it; the service judges the rest.
func newItem(line int64, text []byte) item {
	if !json.Valid(text) {
		return item{line: line, fault: "not JSON"}
	}
	it := item{line: line, body: bytes.Clone(text)}
	var named struct {
		TradeID json.RawMessage `json:"trade_id"`
		Version json.RawMessage `json:"version"`
	}
	_ = json.Unmarshal(text, &named) // anything but an object names nothing
	_ = json.Unmarshal(named.TradeID, &it.tradeID)
	it.version, _ = strconv.ParseInt(string(named.Version), 10, 32)
	return it
}

// csv reads RFC 4180 with a header. Errors: a header that does not name the six fields once each.
func (in *input) csv() (func() (item, error), error) {
	in.left = maxItem
	rows := csv.NewReader(in)
	rows.ReuseRecord = true
	row, err := rows.Read()
	header := slices.Clone(row)
	if sorted := slices.Sorted(slices.Values(header)); err != nil || !slices.Equal(sorted, fields) {
		return nil, fmt.Errorf("the first line of the CSV has to name these fields, in any order: %s",
			strings.Join(fields, ","))
	}
	ended, last := false, 1
	return func() (item, error) {
		if ended {
			return item{}, io.EOF
		}
		in.left = maxItem
		row, err := rows.Read()
		var wrong *csv.ParseError
		switch {
		case errors.Is(err, errTooLong): // a quote that is never closed takes the rest of the file
			ended = true
			return item{line: int64(last) + 1, fault: "not readable as CSV from here on: " + errTooLong.Error()}, nil
		case errors.As(err, &wrong):
			last = wrong.StartLine
			return item{line: int64(last), fault: "not CSV: " + wrong.Err.Error()}, nil
		case err != nil:
			return item{}, err
		}
		last, _ = rows.FieldPos(0)
		return newItem(int64(last), rowJSON(header, row)), nil
	}, nil
}

// rowJSON writes a row as an object. A version that is no number stays text, for the service to refuse.
func rowJSON(header, row []string) []byte {
	object := []byte{'{'}
	for i, name := range header {
		if i > 0 {
			object = append(object, ',')
		}
		object = append(object, `"`+name+`":`...)
		value, _ := json.Marshal(row[i]) // a string can always be marshalled
		if name == "version" && json.Valid([]byte(row[i])) && strings.Trim(row[i], "0123456789") == "" {
			value = []byte(row[i])
		}
		object = append(object, value...)
	}
	return append(object, '}')
}
