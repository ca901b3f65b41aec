package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// pipeline measures the whole product, embedded stack and generator on the same cores, against a fasthttp server that
// does nothing. Rounds of the two alternate, so that both meet the same hours of the machine.
func pipeline(ctx context.Context, r *report, rounds int, hold time.Duration, connections int) error {
	noop, stopNoop, err := startNoop(ctx)
	if err != nil {
		return err
	}
	defer stopNoop()
	p, err := startProduct(ctx)
	if err != nil {
		return err
	}
	defer p.stop()

	var limit, accepted, stored, ratioAccepted, ratioStored []float64
	for round := range rounds {
		fmt.Printf("pipeline: round %d of %d\n", round+1, rounds)
		l, err := attack(ctx, noop, "noop", connections, hold)
		if err != nil {
			return err
		}
		limit = append(limit, l.rate(http.StatusAccepted))

		before, err := p.applied(ctx)
		if err != nil {
			return err
		}
		began := time.Now()
		l, err = attack(ctx, p.API, fmt.Sprintf("r%d-%d", round, began.Unix()), connections, hold)
		if err != nil {
			return err
		}
		fmt.Println("answers by status:", l.answers)
		accepted = append(accepted, l.rate(http.StatusAccepted))
		if err := p.drained(ctx, before+int64(l.answers[http.StatusAccepted])); err != nil {
			return err
		}
		stored = append(stored, float64(l.answers[http.StatusAccepted])/time.Since(began).Seconds())
		ratioAccepted = append(ratioAccepted, accepted[round]/limit[round])
		ratioStored = append(ratioStored, stored[round]/limit[round])
	}
	fmt.Fprintf(r, "\n## Pipeline: embedded stack, %d connections, closed loop, %d rounds of %v\n\n`go run ./bench -only pipeline`\n\n",
		connections, rounds, hold)
	fmt.Fprintf(r, "| figure | trades/s (low to high) | of no-op |\n|---|---:|---:|\n")
	fmt.Fprintf(r, "| fasthttp no-op | %s | 1 |\n", figureOf(limit).perSecond())
	fmt.Fprintf(r, "| accepted (202) | %s | %.2f |\n", figureOf(accepted).perSecond(), figureOf(ratioAccepted).median)
	fmt.Fprintf(r, "| accepted and stored, until the last one is | %s | %.2f |\n", figureOf(stored).perSecond(), figureOf(ratioStored).median)
	return stages(ctx, r, p.API)
}

// stages adds where an accepted trade spent its time, by the server's own histograms.
func stages(ctx context.Context, r *report, api string) error {
	page, err := get(ctx, "http://"+api+"/metrics")
	if err != nil {
		return err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(page))
	if err != nil {
		return fmt.Errorf("cannot read the metrics: %w", err)
	}
	fmt.Fprintf(r, "\nWhere the time of an accepted trade went, mean of all rounds: ")
	for i, m := range families["tradestore_accept_stage_duration_seconds"].GetMetric() {
		if i > 0 {
			fmt.Fprint(r, ", ")
		}
		h := m.GetHistogram()
		fmt.Fprintf(r, "%s %.1f ms", m.GetLabel()[0].GetValue(), 1000*h.GetSampleSum()/float64(h.GetSampleCount()))
	}
	fmt.Fprintf(r, ".\nThe embedded broker syncs each batch of each partition to disk, one after the other, before it acknowledges:\n"+
		"that is the `produce` stage, and what binds here.\n")
	return nil
}

// product is a running `tradestore dev` with a data folder of its own. The fields are those of its dev.json.
type product struct {
	API      string `json:"api"` // host:port
	Database string `json:"database"`
	cmd      *exec.Cmd
	folder   string
}

// startProduct builds the binary, starts it and waits until it is ready.
func startProduct(ctx context.Context) (*product, error) {
	folder, err := os.MkdirTemp("", "tradestore-bench-")
	if err != nil {
		return nil, fmt.Errorf("cannot make a data folder: %w", err)
	}
	if err := os.Chmod(folder, 0o755); err != nil { //nolint:gosec // the database runs as another user when we are root
		return nil, err
	}
	binary := filepath.Join(folder, "tradestore")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, ".").CombinedOutput(); err != nil { //nolint:gosec // our own path
		return nil, fmt.Errorf("cannot build tradestore: %w\n%s", err, out)
	}
	p := &product{folder: folder}
	api, worker := freeAddress(), freeAddress()
	data := filepath.Join(folder, "data")
	p.cmd = exec.Command(binary, "dev", "--listen", api, "--worker-listen", worker, "--data-dir", data, "--log-level", "warn") //nolint:gosec,noctx // stopped by stop
	p.cmd.Stdout, p.cmd.Stderr = io.Discard, os.Stderr
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start tradestore dev: %w", err)
	}
	for ctx.Err() == nil {
		if _, err := get(ctx, "http://"+api+"/readyz"); err == nil {
			note, err := os.ReadFile(filepath.Join(data, "dev.json")) //nolint:gosec // our own folder
			if err == nil {
				err = json.Unmarshal(note, p)
			}
			p.API = api
			return p, err
		}
		time.Sleep(100 * time.Millisecond)
	}
	p.stop()
	return nil, ctx.Err()
}

// stop ends the product as an operator would and deletes its data.
func (p *product) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.cmd.Wait()
	_ = os.RemoveAll(p.folder)
}

// applied returns how many records of the topic have been decided.
func (p *product) applied(ctx context.Context) (n int64, err error) {
	conn, err := pgx.Connect(ctx, p.Database)
	if err != nil {
		return 0, fmt.Errorf("cannot reach the database: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	err = conn.QueryRow(ctx, "SELECT sum(next_offset) FROM ingest_offsets").Scan(&n)
	return n, err
}

// drained waits until at least n records of the topic have been decided.
func (p *product) drained(ctx context.Context, n int64) error {
	for {
		done, err := p.applied(ctx)
		if err != nil || done >= n {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// startNoop starts serveNoop as a process of its own, as the product is one, and returns its address.
func startNoop(ctx context.Context) (address string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, fmt.Errorf("cannot find this program: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, "noop") //nolint:gosec // ourselves
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("cannot start the no-op server: %w", err)
	}
	stop = func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("the no-op server did not start: %w", err)
	}
	return line[:len(line)-1], stop, nil
}

func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", url, answer.Status)
	}
	return io.ReadAll(answer.Body)
}

func freeAddress() string {
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed at once
	if err != nil {
		exit(fmt.Errorf("cannot find a free port: %w", err))
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().String()
}
