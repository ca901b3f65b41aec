package role

import (
	"context"
	"errors"
)

// RunWorker runs the worker role.
func RunWorker(ctx context.Context, cfg WorkerConfig, env Env) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	return errors.New("not built yet")
}
