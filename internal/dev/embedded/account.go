package embedded

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// account is who runs the server: the caller, or, as PostgreSQL refuses root, somebody without rights for root.
type account struct {
	uid, gid int
	switched bool // the caller is root and the server runs as uid
}

// serverAccount decides who runs the server. An existing data folder decides for its owner.
func serverAccount(data string) (account, error) {
	owner, exists := ownerOf(data)
	if euid := os.Geteuid(); euid != 0 {
		if exists && owner.uid != euid {
			return account{}, fmt.Errorf("its files belong to user %d and you are user %d: choose another folder", owner.uid,
				euid)
		}
		return account{uid: euid, gid: os.Getegid()}, nil
	}
	if exists && owner.uid != 0 {
		return owner, nil
	}
	for _, name := range []string{"nobody", "postgres", "daemon"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err1 == nil && err2 == nil && uid != 0 {
			return account{uid, gid, true}, nil
		}
	}
	return account{}, errors.New("PostgreSQL refuses to run as root, " +
		"and there is no user nobody, postgres or daemon to run it as")
}

func ownerOf(path string) (account, bool) {
	info, err := os.Stat(path) //nolint:gosec // a folder that a flag names is the point of the flag
	if err != nil {
		return account{}, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return account{}, false
	}
	return account{int(st.Uid), int(st.Gid), os.Geteuid() == 0}, true
}

// own gives path to the account.
func (a account) own(path string) error {
	if !a.switched {
		return nil
	}
	if err := os.Chown(path, a.uid, a.gid); err != nil {
		return fmt.Errorf("cannot hand folder to the server's user: %w", err)
	}
	return nil
}

// credential is nil when the server runs as the caller.
func (a account) credential() *syscall.Credential {
	if !a.switched {
		return nil
	}
	return &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)} // nobody on macOS is -2: the overflow is intended
}
