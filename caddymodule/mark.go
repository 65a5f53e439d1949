package caddymodule

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/anteroom-proxy/anteroom/session"
)

// markFile keeps, beside the master key, up to where this node has heard the revocation feed. A store that was set back to an
// older state is recognized by it at the next start: sessions that were ended since would live again. The file has a line for
// each store that the directory has worked with lately, the latest first: a mark of another store says nothing about this one,
// and going over to another one, with the old config's sessions saving their last mark after the new ones' first, loses neither.
type markFile struct {
	path  string
	store string
	most  int // lines; 0: maxMarks
}

// maxMarks bounds the stores that the file names.
const maxMarks = 8

// marking guards the file: around a reload with other lifetimes two managers write it. A torn line would be taken for a
// store that was set back, and everybody would be signed out.
var marking sync.Mutex

// mark is the mark of this app's store.
func (a *App) mark() session.Mark {
	sum := sha256.Sum256([]byte(a.storeFrom.Name(a.Directory)))
	return markFile{path: filepath.Join(a.Directory, "feed.mark"), store: hex.EncodeToString(sum[:8])}
}

// Load returns the cursor, "" when there is none for this store.
func (m markFile) Load() (string, error) {
	marking.Lock()
	defer marking.Unlock()
	lines, err := m.read()
	if err != nil {
		return "", err
	}
	for _, line := range lines {
		if store, cursor, _ := strings.Cut(line, " "); store == m.store {
			return cursor, nil
		}
	}
	return "", nil
}

func (m markFile) read() ([]string, error) {
	text, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return slices.DeleteFunc(lines, func(line string) bool { return line == "" }), nil
}

// Save replaces the file, so that a crash leaves the old one or the new one.
func (m markFile) Save(cursor string) error {
	marking.Lock()
	defer marking.Unlock()
	if err := os.MkdirAll(filepath.Dir(m.path), 0o700); err != nil {
		return err
	}
	lines, err := m.read()
	if err != nil {
		return err
	}
	lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, m.store+" ") })
	lines = slices.Insert(lines, 0, m.store+" "+cursor)
	lines = lines[:min(len(lines), cmp.Or(m.most, maxMarks))]
	next := m.path + ".new"
	if err := writeSynced(next, strings.Join(lines, "\n")+"\n"); err != nil {
		return err
	}
	if err := os.Rename(next, m.path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(m.path))
}

// writeSynced writes a file that a power cut after the rename does not find empty: an empty one would say that nothing was
// ever heard.
func writeSynced(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}
