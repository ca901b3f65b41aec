package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"

	"tradestore/internal/proc"
)

// helperVar names the staging folder to the copy of this program that downloads PostgreSQL.
const helperVar = "TRADESTORE_EMBEDDED_HELPER"

// MaybeHelper turns this process into a helper if that is what it was started for, and then never returns. main and
// TestMain call it before anything else: root needs a process of another user to try a fresh server.
func MaybeHelper() {
	staging := os.Getenv(helperVar)
	if staging == "" {
		helperReady = true
		return
	}
	if err := fetch(staging); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// helperReady guards against a program that forgets MaybeHelper: its helper would start the whole program again.
var helperReady bool

// fetch downloads the binaries to staging/postgres and proves that they run here: with a server on a folder that is
// thrown away.
func fetch(staging string) error {
	syscall.Umask(0o022) // other users run what is unpacked here
	port, err := proc.FreePort()
	if err != nil {
		return err
	}
	var log bytes.Buffer
	trial := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Version(wantVersion).
		Port(uint32(port)).
		CachePath(filepath.Join(staging, "archive")).
		BinariesPath(filepath.Join(staging, "postgres")).
		RuntimePath(filepath.Join(staging, "runtime")).
		DataPath(filepath.Join(staging, "runtime", "data")).
		Locale("C").
		StartParameters(map[string]string{"unix_socket_directories": "", "listen_addresses": "127.0.0.1", "fsync": "off"}).
		StartTimeout(time.Minute).
		Logger(&log))
	if err := trial.Start(); err != nil {
		return err
	}
	return trial.Stop()
}

func runHelper(ctx context.Context, as account, staging string) error {
	if !helperReady {
		return errors.New("this program does not call embedded.MaybeHelper first")
	}
	program, err := proc.Self()
	if err != nil {
		return err
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), helperVar+"="+staging)
	cmd.Dir = staging
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as.credential()}
	if out, err := proc.Run(ctx, cmd, fastShutdown); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(out))
	}
	return nil
}
