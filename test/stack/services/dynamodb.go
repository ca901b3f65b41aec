package services

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"tradestore/internal/proc"
)

// DynamoDBConfig says where DynamoDB Local keeps its files and how it runs.
type DynamoDBConfig struct {
	Dir      string // for data, log and what else it leaves; made when missing. One at a time
	CacheDir string // for the jars, shared by all; empty: in the user's cache folder
	Port     int    // on 127.0.0.1; 0: the one of the last time if it is free, else any free one
	InMemory bool   // everything is gone at the end; else the tables are in Dir and survive kill -9
	HeapMiB  int    // most memory of the Java heap; 0: 512. With InMemory the tables are in it
	// FullSpeed compiles with all optimizations: it is slower for some minutes, and faster then.
	FullSpeed bool
}

// DynamoDB is a running DynamoDB Local. All accounts and regions share the same tables; any credentials do.
type DynamoDB struct{ *Process }

// StartDynamoDB starts DynamoDB Local and returns when it answers. The first start on a machine fetches about 51 MB.
// Errors: proc.ErrPortTaken, ErrMissing.
func StartDynamoDB(ctx context.Context, cfg DynamoDBConfig) (*DynamoDB, error) {
	d, err := prepareDynamoDB(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot start DynamoDB Local: %w", err)
	}
	if err := d.start(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

// Endpoint is the base URL for clients.
func (d *DynamoDB) Endpoint() string { return "http://" + proc.Loopback(d.port) }

func prepareDynamoDB(ctx context.Context, cfg DynamoDBConfig) (*DynamoDB, error) {
	java, jars, err := dynamoJars.find(ctx, cfg.CacheDir)
	if err != nil {
		return nil, err
	}
	dir, err := makeDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	port, err := proc.ChoosePort(cfg.Port, filepath.Join(dir, "port"))
	if err != nil {
		return nil, err
	}
	args, err := cfg.args(dir, port)
	if err != nil {
		return nil, err
	}
	d := &DynamoDB{&Process{name: "DynamoDB Local", port: port, log: filepath.Join(dir, "dynamodb.log")}}
	d.probe = func(ctx context.Context) error { return listTables(ctx, d.Endpoint()) }
	d.build = func() *exec.Cmd {
		cmd := exec.Command(java, append(append(cfg.options(), "-Djava.library.path="+filepath.Join(jars, "lib"), "-cp",
			classPath(jars), "Loopback"), args...)...)
		cmd.Dir = dir // it leaves files where it runs
		return cmd
	}
	return d, nil
}

func (c DynamoDBConfig) options() []string {
	options := []string{fmt.Sprintf("-Xmx%dm", cmp.Or(c.HeapMiB, defaultHeap))}
	if !c.FullSpeed {
		options = append(options, quickStart...)
	}
	return options
}

func (c DynamoDBConfig) args(dir string, port int) ([]string, error) {
	args := []string{"-port", strconv.Itoa(port), "-sharedDb", "-disableTelemetry"}
	if c.InMemory {
		return append(args, "-inMemory"), nil
	}
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make folder: %w", err)
	}
	return append(args, "-dbPath", data), nil
}

// listTables is the cheapest call that goes through to the tables. The signature is not looked at.
func listTables(ctx context.Context, endpoint string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader("{}"))
	if err != nil {
		return err
	}
	req.Close = true
	req.Header.Set("Content-Type", "application/x-amz-json-1.0")
	req.Header.Set("X-Amz-Target", "DynamoDB_20120810.ListTables")
	req.Header.Set("Authorization",
		"AWS4-HMAC-SHA256 Credential=local/20260101/local/dynamodb/aws4_request, SignedHeaders=host, Signature=00")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("DynamoDB Local answers %s", resp.Status)
	}
	return nil
}
