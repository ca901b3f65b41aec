package services

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"

	"tradestore/internal/proc"
)

// RoleConfig says which role of the product runs, and how.
type RoleConfig struct {
	Dir     string   // for its log, and where it runs; made when missing
	Program string   // path of tradestore
	Role    string   // server or worker
	Env     []string // all of it; settings are TRADESTORE_ variables
}

// StartRole starts a role on a free port of 127.0.0.1, which it keeps over restarts, and returns when it is ready.
func StartRole(ctx context.Context, cfg RoleConfig) (*Process, error) {
	dir, err := makeDir(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", cfg.Role, err)
	}
	port, err := proc.ChoosePort(0, filepath.Join(dir, "port"))
	if err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", cfg.Role, err)
	}
	p := &Process{name: cfg.Role, port: port, log: filepath.Join(dir, cfg.Role+".log")}
	p.probe = func(ctx context.Context) error { return isOK(ctx, "http://"+proc.Loopback(port)+"/readyz") }
	p.build = func() *exec.Cmd {
		cmd := exec.Command(cfg.Program, cfg.Role, "--listen", proc.Loopback(port))
		cmd.Dir, cmd.Env = dir, cfg.Env
		return cmd
	}
	if err := p.start(ctx); err != nil {
		return nil, err
	}
	return p, nil
}
