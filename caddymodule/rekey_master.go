package caddymodule

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/anteroom-proxy/anteroom/rekey"
)

// Beside a master key file stand, while it is being replaced, the next one; and after it, unless they were removed, former ones,
// each with the digits of its id behind the suffix.
const (
	nextKeySuffix   = ".new"
	formerKeySuffix = ".old-"
)

// keyFiles says what operations may do with master key files.
func (a *App) keyFiles(st openStore, certs *storageDesk, alone bool, c *rekey.Config) {
	site, local := a.from().(*MasterLocal)
	other := a.storageElsewhere()
	switch {
	case local && alone && other != nil:
		c.NoMaster = "the certificate storage " + other.name + " has data keys of its own under a master key, and other nodes use them: make a new key file, write `master local NEW` with the line `former local OLD` in its block into the option `anteroom` and into `storage anteroom_redis`, on every node, restart them all, and run `anteroom keys migrate`, which moves both. " +
			"When the old file was stolen, run `anteroom keys compromised ID` for each data key afterwards, also for storage/ID"
	case local && alone:
		c.Master = keyFile{path: site.path(a.Directory), own: st.envelope, apps: st.apps}
	case local:
		c.NoMaster = "the master key file is shared by several nodes, and this program reaches only its own: make a new file, write `master local NEW` with the line `former local OLD` in its block into the config of every node, restart them all, and run `anteroom keys migrate`. " +
			"When the old file was stolen, run `anteroom keys compromised ID` for each data key afterwards"
	default:
		c.NoMaster = "the master key is in AWS KMS: rotate it there (the data keys stay wrapped under its older material until `anteroom keys migrate`). When its users were compromised, make a new KMS key, write `master awskms NEW` with the line `former awskms OLD` in its block, " +
			"restart, run `anteroom keys migrate`, and then `anteroom keys compromised ID` for each data key"
	}
	// A certificate storage elsewhere may hold values of version 1 under the file until its own operation, which comes after
	// this one, has sealed them anew; that one removes the file.
	c.PutAway = func(remove bool) (string, error) { return a.putAway(st, certs, remove && certs == nil) }
}

// putAway is the end of a migration from a key file: to KMS, or to another file. A file that wraps something still stays,
// whatever the lines say: they may have changed since the migration began, or name one file twice.
func (a *App) putAway(st openStore, certs *storageDesk, remove bool) (string, error) {
	var paths []string
	switch m := a.from().(type) {
	case *MasterLocal:
		paths, _ = filepath.Glob(m.path(a.Directory) + formerKeySuffix + "*")
		for _, f := range m.former {
			if l, ok := f.(*MasterLocal); ok {
				paths = append(paths, l.path(a.Directory))
			}
		}
	default:
		paths = append(paths, filepath.Join(a.Directory, "master.key"))
	}
	detail := "no former key file is there"
	for _, path := range paths {
		switch why, err := a.needed(st, certs, path); {
		case err != nil:
			return "", err
		case !exists(path):
		case why != "":
			detail = path + " was left alone: " + why
		case remove:
			if err := shred(path); err != nil {
				return "", err
			}
			detail = path + " was overwritten and removed"
		default:
			detail = path + " is not needed any more, and believed as long as it lies there: put it where you keep the backups that it opens, or remove it with `anteroom keys migrate --remove`"
		}
	}
	return detail, nil
}

// needed says why a key file must stay, "" when nothing needs it.
func (a *App) needed(st openStore, certs *storageDesk, path string) (why string, err error) {
	info, err := os.Lstat(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return "", err
	}
	m, err := envelope.OpenLocal(path)
	if err != nil || !info.Mode().IsRegular() {
		return "it is no key file that can be read, or a link to one", nil
	}
	for _, e := range []*envelope.Envelope{st.envelope, st.apps} {
		for _, k := range e.Keys() {
			if k.Master == m.ID() && !strings.HasPrefix(k.ID, "v1:") {
				return "the data key " + k.ID + " is under it", nil
			}
		}
	}
	return certs.needs(m.ID()), nil
}

// keyFile replaces the master key file of an embedded store. Whatever moment the process dies at, a start opens everything: while
// the next file is there it is the master, and the present one a former master (MasterLocal.Open).
type keyFile struct {
	path      string
	own, apps *envelope.Envelope
}

// ID implements rekey.Master. No file is made here: a new one would hide that the old one is lost.
func (k keyFile) ID() string {
	if !exists(k.path) {
		return ""
	}
	m, err := envelope.OpenLocal(k.path)
	if err != nil {
		return ""
	}
	return m.ID()
}

// Prepare implements rekey.Master.
func (k keyFile) Prepare(ctx context.Context) (id string, err error) {
	m, err := envelope.OpenLocal(k.path + nextKeySuffix)
	if err != nil {
		return "", err
	}
	for _, e := range []*envelope.Envelope{k.own, k.apps} {
		if e == nil {
			continue
		}
		if err := e.Adopt(ctx, m); err != nil {
			return "", err
		}
	}
	return m.ID(), nil
}

// Finish implements rekey.Master.
func (k keyFile) Finish(_ context.Context, former string, remove bool) (string, error) {
	next, old := k.path+nextKeySuffix, k.path+formerKeySuffix+strings.TrimPrefix(former, "local:")
	if exists(next) {
		if k.ID() != former {
			return "", fmt.Errorf("%s is not the master key %s any more: nothing was replaced; put it back", k.path, former)
		}
		if err := os.Link(k.path, old); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", err
		}
		if err := os.Rename(next, k.path); err != nil {
			return "", err
		}
		if err := syncDir(filepath.Dir(k.path)); err != nil {
			return "", err
		}
	}
	switch {
	case !exists(old):
		return "the former key file was overwritten and removed", nil
	case remove:
		return "the former key file was overwritten and removed", shred(old)
	}
	return "the former key file is " + old + ": keep it with the backups that it opens, or remove it", nil
}

// shred overwrites a key file and removes it. A disk that moves what is written (SSD, copy-on-write) may keep the old bytes all
// the same: destroy it when it leaves the house.
func shred(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() > 1<<10 {
		return fmt.Errorf("%s is no key file; it was left alone", path)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	noise := make([]byte, info.Size())
	_, _ = rand.Read(noise) // never fails
	_, err = f.WriteAt(noise, 0)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
