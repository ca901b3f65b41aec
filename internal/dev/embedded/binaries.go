package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"tradestore/internal/proc"
)

const (
	wantVersion = "16.15.0" // as the repository of binaries spells it
	wantMajor   = 16
	leastMajor  = 15 // the oldest that the schema works with

	downloadLimit = 5 * time.Minute
)

// binaries is a folder with initdb and postgres.
type binaries struct {
	dir     string
	version string // such as 16.15
	major   int
}

func (b binaries) tool(name string) string { return filepath.Join(b.dir, name) }

// DefaultCacheDir is where binaries are kept: proc.CacheDir, but for root a folder that the server's user can enter.
func DefaultCacheDir() string {
	if os.Geteuid() == 0 && os.Getenv("TRADESTORE_CACHE_DIR") == "" {
		return "/var/cache/tradestore"
	}
	if dir, err := proc.CacheDir(""); err == nil {
		return dir
	}
	return filepath.Join(os.TempDir(), "tradestore-cache")
}

// findBinaries returns a server of the major version given; 0 stands for the preferred one, or for what there is.
// In this order: the cache, the download, what is installed.
func findBinaries(ctx context.Context, cfg Config, as account, major int) (binaries, error) {
	var refused error
	if major == 0 || major == wantMajor {
		b, err := downloaded(ctx, cfg, as)
		if err == nil {
			return b, nil
		}
		refused = err
	}
	b, err := installed(ctx, major)
	if err != nil {
		return binaries{}, errors.Join(refused, err)
	}
	if refused != nil {
		cfg.Log.Warn().Err(refused).Str("dir", b.dir).Str("version", b.version).Msg("using the installed PostgreSQL")
	}
	return b, nil
}

// downloaded returns the binaries in the cache, and fills the cache first if need be. Other processes may do so at the
// same time. The folder appears complete or not at all.
func downloaded(ctx context.Context, cfg Config, as account) (binaries, error) {
	root := filepath.Join(cfg.CacheDir, fmt.Sprintf("postgres-%s-%s-%s", wantVersion, runtime.GOOS, runtime.GOARCH))
	if _, err := os.Stat(root); err == nil {
		return inspect(ctx, filepath.Join(root, "bin"))
	}
	if err := MakeDir(cfg.CacheDir); err != nil {
		return binaries{}, err
	}
	unlock, err := proc.WaitLock(ctx, filepath.Join(cfg.CacheDir, "lock"))
	if err != nil {
		return binaries{}, err
	}
	defer unlock()
	if _, err := os.Stat(root); err == nil { // another process was faster
		return inspect(ctx, filepath.Join(root, "bin"))
	}
	cfg.Log.Info().Str("version", wantVersion).Str("cache", cfg.CacheDir).Msg("downloading PostgreSQL, once")
	if err := dropStagings(cfg.CacheDir); err != nil {
		return binaries{}, err
	}
	staging, err := os.MkdirTemp(cfg.CacheDir, "download-")
	if err != nil {
		return binaries{}, fmt.Errorf("cannot make cache folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(staging) }() // what stays is dropped by the next download
	if err := as.own(staging); err != nil {
		return binaries{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, downloadLimit)
	defer cancel()
	if err := runHelper(ctx, as, staging); err != nil {
		return binaries{}, fmt.Errorf("cannot download PostgreSQL %s: %w", wantVersion, err)
	}
	fetched := filepath.Join(staging, "postgres")
	if err := disown(fetched); err != nil {
		return binaries{}, err
	}
	if err := os.Rename(fetched, root); err != nil {
		return binaries{}, fmt.Errorf("cannot fill cache: %w", err)
	}
	return inspect(ctx, filepath.Join(root, "bin"))
}

// dropStagings removes what killed downloads left. The caller holds the lock.
func dropStagings(cache string) error {
	left, err := filepath.Glob(filepath.Join(cache, "download-*"))
	if err != nil {
		return err
	}
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("cannot clean cache: %w", err)
		}
	}
	return nil
}

// disown takes a tree back for the caller, so that the account that runs servers can't change them.
func disown(tree string) error {
	return filepath.WalkDir(tree, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, os.Geteuid(), os.Getegid())
	})
}

// installed returns the newest server on this machine that will do; major 0 takes any that is new enough.
func installed(ctx context.Context, major int) (binaries, error) {
	var best binaries
	for _, dir := range installedDirs(ctx) {
		b, err := inspect(ctx, dir)
		if err != nil || b.major < leastMajor || major != 0 && b.major != major {
			continue
		}
		if b.major > best.major {
			best = b
		}
	}
	if best.dir == "" && major != 0 {
		return best, fmt.Errorf("its data is of PostgreSQL %d, and no server of that version is installed", major)
	}
	if best.dir == "" {
		return best, fmt.Errorf("no PostgreSQL %d or newer is installed", leastMajor)
	}
	return best, nil
}

func installedDirs(ctx context.Context) []string {
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil { // its share folder lies beside the real place
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin",
		"/usr/local/opt/postgresql@*/bin",
	} {
		found, _ := filepath.Glob(pattern) // the patterns are well-formed
		dirs = append(dirs, found...)
	}
	return dirs
}

var versionLine = regexp.MustCompile(`^postgres \(PostgreSQL\) ((\d+)[^ \n]*)`)

// inspect says which server a folder holds.
func inspect(ctx context.Context, dir string) (binaries, error) {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return binaries{}, fmt.Errorf("no PostgreSQL server: %w", err)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version")
	cmd.Stderr = new(bytes.Buffer)
	out, err := cmd.Output()
	if err != nil {
		return binaries{}, fmt.Errorf("cannot run %s: %w: %s", cmd.Path, err, strings.TrimSpace(fmt.Sprint(cmd.Stderr)))
	}
	m := versionLine.FindSubmatch(out)
	if m == nil {
		return binaries{}, fmt.Errorf("cannot tell the version of %s", cmd.Path)
	}
	major, err := strconv.Atoi(string(m[2]))
	if err != nil {
		return binaries{}, fmt.Errorf("cannot tell the version of %s: %w", cmd.Path, err)
	}
	return binaries{dir, string(m[1]), major}, nil
}
