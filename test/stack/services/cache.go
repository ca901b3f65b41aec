package services

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"tradestore/internal/proc"
)

const marker = "complete" // written last

// ErrMissing says that this machine lacks what a service needs: Java 17 or Go, or the files that are not in the cache
// and can't be fetched. The error names which.
var ErrMissing = errors.New("something is missing")

// recipe says how a folder of the cache is made.
type recipe struct {
	kind string // of the folders beside it
	name string
	// decides what is in the folder; another text gets another one, so that nothing changes under a running program
	text string
	fill func(ctx context.Context, dir string) error
}

// ensure returns the folder, and fills it first if need be. cache may be empty. Other processes may do so at the same
// time: one works, the others wait. A folder without the marker is what a killed or failed attempt left, and is made
// again.
func (r recipe) ensure(ctx context.Context, cache string) (string, error) {
	if cache == "" {
		var err error
		if cache, err = proc.CacheDir(r.kind); err != nil {
			return "", err
		}
	}
	cache, err := filepath.Abs(cache)
	if err != nil {
		return "", fmt.Errorf("cannot use cache folder: %w", err)
	}
	sum := sha256.Sum256([]byte(r.text))
	dir := filepath.Join(cache, r.name+"-"+hex.EncodeToString(sum[:4]))
	if complete(dir) {
		return dir, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("cannot make cache folder: %w", err)
	}
	unlock, err := proc.WaitLock(ctx, dir+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if complete(dir) { // another process was faster
		return dir, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", fmt.Errorf("cannot remove what an earlier attempt left: %w", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", fmt.Errorf("cannot make cache folder: %w", err)
	}
	if err := r.fill(ctx, dir); err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, marker), nil, 0o644)
}

func complete(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, marker))
	return err == nil
}
