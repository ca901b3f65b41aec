package embedded

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"tradestore/internal/proc"
)

const (
	elsewhere    = "/var/lib/tradestore" // for root's databases in folders that are closed to other users
	locationNote = "postgres.location"   // in Config.Dir: where the files really are
)

// home is the folder of one server:
//
//	data      the cluster; appears when it is complete
//	password  of the superuser
//	log       what the server says
type home struct {
	dir string
	as  account
}

func (h home) data() string     { return filepath.Join(h.dir, "data") }
func (h home) password() string { return filepath.Join(h.dir, "password") }
func (h home) log() string      { return filepath.Join(h.dir, "postgres.log") }

// open takes the folder for this process and finds the files.
func (p *Postgres) open(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := MakeDir(dir); err != nil {
		return err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil { // an orphan is known by this path
		return err
	}
	if err := p.lock(dir); err != nil {
		return err
	}
	if p.home, err = openHome(dir); err != nil || p.home.dir == dir {
		return err
	}
	p.cfg.Log.Info().Str("dir", p.home.dir).
		Msg("PostgreSQL refuses to run as root and other users can't enter the data folder: the database files go elsewhere")
	return p.lock(p.home.dir)
}

func (p *Postgres) lock(dir string) error {
	unlock, err := proc.Lock(filepath.Join(dir, "lock"))
	if err == nil {
		p.locks = append(p.locks, unlock)
	}
	return err
}

func (p *Postgres) release() {
	for _, unlock := range p.locks {
		unlock()
	}
}

// prepare gets everything ready for the first launch.
func (p *Postgres) prepare(ctx context.Context) error {
	if err := p.open(p.cfg.Dir); err != nil {
		return err
	}
	major, err := p.home.major()
	if err != nil {
		return err
	}
	if p.bin, err = findBinaries(ctx, p.cfg, p.home.as, major); err != nil {
		return err
	}
	if err := p.home.stopOrphan(ctx); err != nil {
		return err
	}
	if major == 0 {
		p.cfg.Log.Info().Str("dir", p.home.dir).Str("version", p.bin.version).Msg("making a new database")
		if err := p.home.initialise(ctx, p.bin, p.cfg.Fast || p.cfg.Scratch); err != nil {
			return err
		}
	}
	password, err := os.ReadFile(p.home.password())
	if err != nil {
		return fmt.Errorf("cannot read the password: %w", err)
	}
	p.password = strings.TrimSpace(string(password))
	p.args = p.settings()
	p.port, err = proc.ChoosePort(p.cfg.Port, filepath.Join(p.home.dir, "port"))
	return err
}

// settings are those of a machine that does other things as well. Durability is PostgreSQL's default: full.
func (p *Postgres) settings() []string {
	args := []string{"-D", p.home.data()}
	set := func(name, value string) { args = append(args, "-c", name+"="+value) }
	set("listen_addresses", "127.0.0.1")
	set("unix_socket_directories", "")
	set("max_connections", "200")
	set("shared_buffers", p.cfg.SharedBuffers)
	set("max_wal_size", p.cfg.MaxWAL)
	set("checkpoint_timeout", "15min")
	set("jit", "off")
	set("timezone", "UTC")
	set("log_timezone", "UTC")
	if p.cfg.Fast {
		set("fsync", "off")
		set("full_page_writes", "off")
	}
	lz4 := []string{"-c", "wal_compression=lz4"} // cheaper than what it saves; the binaries that are downloaded lack it
	if p.home.command(p.bin.tool("postgres"),
		slices.Concat(args, lz4, []string{"-C", "wal_compression"})...).Run() == nil {
		args = append(args, lz4...)
	}
	return args
}

// openHome finds the folder of the database files: where the note says, else dir itself, else, when root's stand-in
// can't go there, a place that it can reach. From then on the note decides.
func openHome(dir string) (home, error) {
	place, noted, err := readNote(dir)
	if err != nil {
		return home{}, err
	}
	as, err := serverAccount(filepath.Join(place, "data"))
	if err != nil {
		return home{}, err
	}
	h := home{place, as}
	if !as.switched || h.reachable() {
		return h, nil
	}
	if _, err := os.Stat(h.data()); noted || err == nil {
		return home{}, fmt.Errorf("user %d, who runs PostgreSQL for root, can't enter %s", as.uid, place)
	}
	h.dir = relocated(dir)
	if err := errors.Join(MakeDir(elsewhere), MakeDir(h.dir)); err != nil {
		return home{}, err
	}
	if !h.reachable() {
		return home{}, fmt.Errorf("user %d, who runs PostgreSQL for root, can enter neither the folder nor %s", as.uid, h.dir)
	}
	if err := os.WriteFile(filepath.Join(dir, locationNote), []byte(h.dir+"\n"), 0o600); err != nil {
		return home{}, fmt.Errorf("cannot note the place of the database: %w", err)
	}
	return h, nil
}

// readNote returns where the files of dir are, and whether a note says so. A note can't name any place but our own.
func readNote(dir string) (place string, noted bool, err error) {
	text, err := os.ReadFile(filepath.Join(dir, locationNote))
	if errors.Is(err, fs.ErrNotExist) {
		return dir, false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("cannot read the place of the database: %w", err)
	}
	place = strings.TrimSpace(string(text))
	if filepath.Dir(place) != elsewhere {
		return "", false, fmt.Errorf("%s names a place outside %s", filepath.Join(dir, locationNote), elsewhere)
	}
	return place, true, nil
}

// relocated is where the database of a folder goes that root's stand-in can't enter.
func relocated(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return filepath.Join(elsewhere, hex.EncodeToString(sum[:8]))
}

// MakeDir makes a folder that other users can pass through but not list. What is secret in it has its own mode.
func MakeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return fmt.Errorf("cannot make folder: %w", err)
	}
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if err == nil {
		err = os.Chmod(dir, info.Mode()|0o011) // whatever root's umask is
	}
	return err
}

// Remove deletes the folder of a server that doesn't run, with the database files wherever they are. A server that a
// killed process left behind is stopped first. Errors: proc.ErrLocked while another process uses the folder.
func Remove(ctx context.Context, dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var p Postgres
	defer func() { p.release() }()
	if err := p.open(dir); err != nil {
		return fmt.Errorf("cannot remove the database in %s: %w", dir, err)
	}
	if err := p.home.stopOrphan(ctx); err != nil {
		return fmt.Errorf("cannot remove the database in %s: %w", dir, err)
	}
	if err := errors.Join(os.RemoveAll(p.home.dir), os.RemoveAll(dir)); err != nil {
		return fmt.Errorf("cannot remove the database in %s: %w", dir, err)
	}
	return nil
}

// reachable asks the kernel: can the server's user enter the folder?
func (h home) reachable() bool {
	cmd := h.command("/bin/sh", "-c", "exit 0")
	cmd.Dir = h.dir
	return cmd.Run() == nil
}

// command runs a program of the server as its user, out of reach of Ctrl-C, with nothing of the caller's environment
// that would change what it does.
func (h home) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	for _, v := range []string{"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR"} {
		if s, ok := os.LookupEnv(v); ok {
			cmd.Env = append(cmd.Env, v+"="+s)
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: h.as.credential(), Setpgid: true}
	return cmd
}

// major is the version of the data, 0 when there is none yet.
func (h home) major() (int, error) {
	text, err := os.ReadFile(filepath.Join(h.data(), "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(h.data()); err == nil {
			return 0, fmt.Errorf("%s exists and is not a PostgreSQL data folder: move it away", h.data())
		}
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("cannot read the version of the data: %w", err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("cannot read the version of the data: %w", err)
	}
	return major, nil
}

// initialise makes the cluster beside its final place and renames it when it is complete: a crash leaves data.new,
// which the next start throws away.
func (h home) initialise(ctx context.Context, bin binaries, scratch bool) error {
	fresh := h.data() + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("cannot remove a half-made database: %w", err)
	}
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return fmt.Errorf("cannot make a database: %w", err)
	}
	if err := h.as.own(fresh); err != nil {
		return err
	}
	var secret [16]byte
	_, _ = rand.Read(secret[:]) // never fails
	if err := os.WriteFile(h.password(), []byte(hex.EncodeToString(secret[:])+"\n"), 0o600); err != nil {
		return fmt.Errorf("cannot write the password: %w", err)
	}
	if err := h.as.own(h.password()); err != nil {
		return err
	}
	args := []string{"-D", fresh, "-U", role, "--pwfile", h.password(), "-A", "scram-sha-256", "-E", "UTF8", "--locale=C",
		"--no-instructions"}
	single := []string{"--single", "-D", fresh, "postgres"}
	if scratch {
		args = append(args, "--no-sync")
		single = append([]string{"--single", "-F"}, single[1:]...)
	}
	if err := runTool(ctx, h.command(bin.tool("initdb"), args...)); err != nil {
		return err
	}
	create := h.command(bin.tool("postgres"), single...)
	create.Stdin = strings.NewReader("CREATE DATABASE " + database + "\n")
	if err := runTool(ctx, create); err != nil {
		return err
	}
	if err := os.Rename(fresh, h.data()); err != nil {
		return fmt.Errorf("cannot put the database in its place: %w", err)
	}
	return nil
}

// runTool runs cmd to its end, or kills it when ctx is done.
func runTool(ctx context.Context, cmd *exec.Cmd) error {
	if out, err := proc.Run(ctx, cmd, fastShutdown); err != nil {
		return fmt.Errorf("%s failed: %w: %s", cmd.Path, err, strings.TrimSpace(out))
	}
	return nil
}
