package cmd

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"tradestore/internal/dev"
	"tradestore/test/program"
	"tradestore/test/stack"
)

// patience bounds every wait for something that must happen. It is no measure of speed.
const patience = time.Minute

func TestMain(m *testing.M) { stack.Main(m) }

// ran is how a command ended in this process.
type ran struct {
	code           int
	stdout, stderr string
}

// try runs a command as a command line gives it. stdin is what - reads.
func try(t *testing.T, ctx context.Context, command, stdin string, args ...string) ran {
	t.Helper()
	var stdout, stderr program.Buffer
	p := &process{stdin: strings.NewReader(stdin), stdout: &stdout, stderr: &stderr}
	selected, _, err := Parse(append([]string{command}, args...), &stdout, &stderr)
	if err != nil {
		return ran{code: exitUsage, stderr: err.Error()}
	}
	code := p.exit(selected.run(ctx, p))
	return ran{code, stdout.String(), stderr.String()}
}

func parseDev(args ...string) (cfg dev.Config, err error) {
	parser, err := kong.New(&cfg, kong.Name("test"), kong.ExplicitGroups(groups))
	if err != nil {
		return cfg, err
	}
	_, err = parser.Parse(args)
	return cfg, err
}

// liveStack is a Trade Store in this process.
type liveStack struct{ API, Worker, Kafka, Database string }

// start runs everything until the end of the test.
func start(t *testing.T) liveStack {
	t.Helper()
	dir, err := stack.Dir()
	require.NoError(t, err)
	cfg, err := parseDev("--data-dir", dir, "--listen", "127.0.0.1:0", "--worker-listen", "127.0.0.1:0", "--lanes", "1",
		"--partitions", "3", "--database-url", stack.Database(t))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	var banner program.Buffer
	go func() {
		ended <- dev.Run(ctx, cfg, &banner, zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel))
	}()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
		_ = os.RemoveAll(dir)
	})
	ready := func() bool { return strings.Contains(banner.String(), "Ctrl-C") }
	require.Eventually(t, ready, 5*patience, 10*time.Millisecond)
	note, err := os.ReadFile(filepath.Join(dir, "dev.json"))
	require.NoError(t, err)
	var s liveStack
	require.NoError(t, json.Unmarshal(note, &s))
	return s
}

// The commands on the whole stack, which they share.
func TestOnAStack(t *testing.T) {
	s := start(t)
	for name, test := range map[string]func(*testing.T, liveStack){
		"status and trades":       testStatusAndTrades,
		"submit of all sorts":     testSubmitOfAllSorts,
		"submit, killed, resumed": testKilledAndResumed,
		"replay":                  testReplay,
	} {
		t.Run(name, func(t *testing.T) { test(t, s) })
	}
}
