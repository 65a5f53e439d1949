package caddymodule

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/anteroom-proxy/anteroom/session"
)

// journalFile keeps the ends of sessions that the store could not take, until it can: a provider says once that somebody is
// signed out, and a node that is restarted meanwhile must not forget it.
type journalFile struct{ path string }

// journaling guards the files: around a reload with other lifetimes two managers write one.
var journaling sync.Mutex

// journal is the journal of this app's store.
func (a *App) journal() session.Journal {
	sum := sha256.Sum256([]byte(a.storeFrom.Name(a.Directory)))
	return journalFile{filepath.Join(a.Directory, fmt.Sprintf("ended-%s.journal", hex.EncodeToString(sum[:8])))}
}

// Load returns what was saved, nil when nothing waits.
func (j journalFile) Load() ([]byte, error) {
	journaling.Lock()
	defer journaling.Unlock()
	text, err := os.ReadFile(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// Save replaces the file, so that a crash leaves the old one or the new one. Nothing to keep is no file.
func (j journalFile) Save(text []byte) error {
	journaling.Lock()
	defer journaling.Unlock()
	if len(text) == 0 {
		if err := os.Remove(j.path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(j.path), 0o700); err != nil {
		return err
	}
	next := j.path + ".new"
	if err := writeSynced(next, string(text)); err != nil {
		return err
	}
	return os.Rename(next, j.path)
}
