package cmd

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/uuid"

	"tradestore/trade"
)

// What became of a line, beside the states of a request: PENDING is accepted.
const (
	refused    = trade.Status("REFUSED")    // by the service, with a code; no effect
	unreadable = trade.Status("UNREADABLE") // not sent
	unknown    = trade.Status("UNKNOWN")    // no usable answer yet
)

// result is a line of the results file. Several may be about one line of the input: the last one counts.
type result struct {
	Line      int64        `json:"line"`
	TradeID   string       `json:"trade_id,omitempty"`
	Version   int64        `json:"version,omitempty"`
	RequestID string       `json:"request_id,omitempty"`
	Status    trade.Status `json:"status"`
	Code      string       `json:"code,omitempty"`
	Detail    string       `json:"detail,omitempty"`
}

// final says whether the line needs no other try. One that could not be read may be by now; looking again costs
// nothing. wait is the flag.
func (r *result) final(wait bool) bool {
	return r.Status != unknown && r.Status != unreadable && (r.Status != trade.Pending || !wait)
}

// runHeader is the first line of the results file. The idempotency key of a line is made of the name and the line, so a
// line that is sent again, by whichever process, is the same submission.
type runHeader struct {
	Name    string    `json:"run"`
	Started time.Time `json:"started"`
	Input   string    `json:"input"`
}

func (r *runHeader) key(line int64) string { return fmt.Sprintf("%s-%d", r.Name, line) }

// keyAge is how old a run may be that is resumed: the service forgets keys after --outcome-retention, 7 days by
// default, and would take what is sent under them for new.
const keyAge = 6 * 24 * time.Hour

const mostLines = 1 << 33 // of an input that can be resumed: a bit is held for each

// results keeps the results of a run. Each is one write, so that a kill leaves at most half a line, which is cut off by
// the next start.
type results struct {
	runHeader
	file *os.File // nil: nobody asked for it
	done bits     // lines that need no other try, from earlier processes of the run
}

// newResults begins a run. path may be empty.
func newResults(path, input string) (*results, error) {
	r := &results{runHeader: runHeader{uuid.NewString(), time.Now().UTC().Truncate(time.Second), input}}
	if path == "" {
		return r, nil
	}
	var err error
	r.file, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("%s exists: --resume goes on with that run, --results names another file", path)
	}
	if err == nil {
		err = r.append(r.runHeader)
	}
	return r, err
}

// resumeResults goes on with a run. earlier is called for each line that needs no other try.
func resumeResults(path string, wait bool, earlier func(result)) (*results, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return nil, err
	}
	r := &results{file: file}
	whole, err := r.load(wait, earlier)
	if err == nil {
		err = file.Truncate(whole)
	}
	if err == nil && time.Since(r.Started) > keyAge {
		err = errors.New("the run is so old that the service may have forgotten its idempotency keys; " +
			"submit what is left as a new run")
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("cannot resume from %s: %w", path, err)
	}
	return r, nil
}

// load reads the file and returns how many bytes are whole lines.
func (r *results) load(wait bool, earlier func(result)) (whole int64, err error) {
	lines := bufio.NewReaderSize(r.file, maxItem)
	for n := 1; ; n++ {
		text, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) && n > 1 {
			return whole, nil
		}
		if err != nil {
			return whole, fmt.Errorf("line %d: %w", n, err)
		}
		whole += int64(len(text))
		var one result
		switch {
		case n == 1:
			if err := json.Unmarshal(text, &r.runHeader); err != nil || uuid.Validate(r.Name) != nil {
				return whole, errors.New("its first line names no run")
			}
			continue
		case json.Unmarshal(text, &one) != nil || one.Line < 1 || one.Line > mostLines || one.Status == "":
			return whole, fmt.Errorf("line %d is no result", n)
		}
		if one.final(wait) && !r.done.has(one.Line) {
			r.done.set(one.Line)
			earlier(one)
		}
	}
}

// append writes one line.
func (r *results) append(v any) error {
	if r.file == nil {
		return nil
	}
	text, err := json.Marshal(v)
	if err == nil {
		_, err = r.file.Write(append(text, '\n'))
	}
	return err
}

func (r *results) close() error {
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

// bits is a set of line numbers: millions of them in little memory.
type bits []uint64

func (b *bits) set(n int64) {
	if missing := int(n/64) + 1 - len(*b); missing > 0 {
		*b = append(*b, make([]uint64, missing)...)
	}
	(*b)[n/64] |= 1 << (n % 64)
}

func (b bits) has(n int64) bool { return n/64 < int64(len(b)) && b[n/64]&(1<<(n%64)) != 0 }
