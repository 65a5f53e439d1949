package envelope

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// OpenLocal reads the master key from the file at path: exactly 32 random bytes. When
// there is no file it makes one, mode 0600, in a folder of mode 0700, and returns only
// after both are on the disk. A file that is there is never written to.
//
// The file must be regular, must belong to the user that this process runs as (or to
// root), and group and others must not have any right on it; each error says which
// file, what is wrong and what to do. A symbolic link is followed when link and file
// both pass that ownership check.
//
// A second start after somebody deleted the file makes a new key, and what was sealed
// under the old one answers ErrSealed: keep a copy.
func OpenLocal(path string) (*Local, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("opening the master key file: %w", err)
	}
	master, err := readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := createKey(path); err != nil {
			return nil, fmt.Errorf("making the master key file %s: %w", path, err)
		}
		// Read back what is there: when two processes start at once one of them wins,
		// and both must use the winner's key.
		master, err = readKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the master key file %s: %w", path, err)
	}
	return newLocal(master)
}

// readKey reads and checks the file. All checks but the link's are made on the open
// file, so that nobody can swap it between check and use.
func readKey(path string) (*secret, error) {
	link, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if err := checkOwner(link, "the symbolic link"); link.Mode()&fs.ModeSymlink != 0 && err != nil {
		return nil, err
	}
	// O_NONBLOCK: opening a named pipe would otherwise wait for a writer for ever.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("it is a symbolic link to a file that does not exist: mount that file, or remove the link so that a new key is made")
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := checkFile(info); err != nil {
		return nil, err
	}
	master := new(secret)
	if _, err := io.ReadFull(f, master[:]); err != nil {
		return nil, fmt.Errorf("reading it: %w", err)
	}
	if *master == (secret{}) {
		return nil, errors.New("it contains only zero bytes, as after a power cut or a failed copy: restore it from a copy, or remove it so that a new key is made (what was sealed under the old key is lost then)")
	}
	return master, nil
}

// checkFile judges an open file by its type, owner, mode and size.
func checkFile(info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("it is not a regular file (%s): give the master key a path of its own", info.Mode().Type())
	}
	if err := checkOwner(info, "it"); err != nil {
		return err
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return fmt.Errorf("its mode is %04o, so that other users of this machine can reach it: set it to 0600 (chmod 600), and consider the key known when they are not trusted", perm)
	}
	if info.Size() != keyLen {
		return fmt.Errorf("it has %d bytes, a master key has exactly %d: restore it from a copy, or remove it so that a new key is made (what was sealed under the old key is lost then)", info.Size(), keyLen)
	}
	return nil
}

// checkOwner refuses what another user owns: whoever owns the file, or the link to it,
// chooses the key, and with a key of one's own choice one can make sealed values.
func checkOwner(info fs.FileInfo, what string) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("its owner cannot be found out on this system")
	}
	if uid := os.Geteuid(); int(st.Uid) != uid && st.Uid != 0 {
		return fmt.Errorf("%s belongs to user %d and this process runs as user %d: change the owner (chown %d), or name another file", what, st.Uid, uid, uid)
	}
	return nil
}

// createKey writes a new key beside path and links it into place. link(2) fails when
// the name exists, so that an existing key is never overwritten, and the name never
// stands for a half-written file. A name that exists by then is no error.
func createKey(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	master := new(secret)
	defer clear(master[:])
	_, _ = rand.Read(master[:]) // never fails: crypto/rand ends the process instead
	if _, err := tmp.Write(master[:]); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// The folder may be new as well, so its own name has to become durable too.
	return errors.Join(syncFolder(dir), syncFolder(filepath.Dir(dir)))
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
