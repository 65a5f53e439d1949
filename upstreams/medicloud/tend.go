package medicloud

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/upstreams/synthetic"
)

// Run does what nobody asks for until ctx ends: it opens the records as soon as the
// encryption service is there, and seals anew what is under keys that the service
// wants to be rid of, at the beginning and every minute.
func (a *App) Run(ctx context.Context) {
	wait := time.NewTimer(0)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		if _, err := a.records(); err != nil {
			wait.Reset(2 * time.Second) // the cause is in the log
			continue
		}
		if _, err := a.Reseal(ctx); err != nil && ctx.Err() == nil {
			a.log.Error("sealing documents anew; what is left is tried again in a minute", "err", err)
		}
		wait.Reset(time.Minute)
	}
}

// Reseal seals anew what is under a key that the service wants to be rid of, and
// returns how many files that were. It can be stopped at any moment: each file is
// the old one or the new one, and the new one was opened and compared before.
func (a *App) Reseal(ctx context.Context) (int, error) {
	state, err := a.records()
	if err != nil {
		return 0, err
	}
	due, err := a.vault.due(ctx)
	if err != nil || len(due) == 0 {
		return 0, err
	}
	var problems []error
	done, away, began, said := 0, 0, time.Now(), time.Now()
	documents := state.View().Documents
	for i, d := range documents {
		if ctx.Err() != nil {
			return done, ctx.Err()
		}
		id, err := keyOf(a.path(d.ID))
		if err == nil && due[id] {
			if err = a.reseal(ctx, d); err == nil {
				done++
			}
		}
		if err != nil && len(problems) < 10 {
			problems = append(problems, fmt.Errorf("document %s: %w", d.ID, err))
		}
		if away++; !errors.Is(err, errAway) && !errors.Is(err, errBroken) {
			away = 0
		}
		if away == 3 { // the rest would go the same way; documents that are damaged keep none of them
			return done, errors.Join(problems...)
		}
		if time.Since(said) > 5*time.Second {
			said = time.Now()
			a.log.Warn("sealing documents anew", "seen", i+1, "of", len(documents), "sealed", done, "per_second", int(float64(done)/time.Since(began).Seconds()))
		}
	}
	// The records last: they are small, and a change of them in between has sealed them anew already.
	id, err := keyOf(filepath.Join(a.dir, "medicloud.sealed"))
	if err == nil && due[id] {
		if err = state.Change(func(*records) error { return nil }); err == nil {
			done++
		}
	}
	if err != nil {
		problems = append(problems, fmt.Errorf("the records: %w", err))
	}
	if done > 0 {
		a.log.Warn("documents are sealed under a new key", "sealed", done, "of", len(documents)+1, "seconds", int(time.Since(began).Seconds()))
	}
	return done, errors.Join(problems...)
}

func (a *App) reseal(ctx context.Context, d Document) error {
	f, err := os.Open(a.path(d.ID))
	if err != nil {
		return err
	}
	defer f.Close()
	body, err := a.vault.stream(ctx, "reseal", forDocument, d.ID, "", io.NopCloser(f))
	if err != nil {
		return err
	}
	defer body.Close()
	return synthetic.WriteFrom(a.path(d.ID), body, func(tmp string) error { return a.compare(ctx, tmp, d) })
}

// compare opens a sealed file and compares the content with what the record says.
func (a *App) compare(ctx context.Context, path string, d Document) error {
	s, err := openSealed(ctx, a.vault, path, d.ID, d.Size)
	if err != nil {
		return err
	}
	defer s.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, s); err != nil {
		return err
	}
	if hex.EncodeToString(sum.Sum(nil)) != d.SHA256 {
		return errors.New("the content is not what was uploaded")
	}
	return nil
}

// sweep removes the pieces of files that a crash has left. Those of an older version
// are in the clear.
func (a *App) sweep() error {
	for _, dir := range []string{a.dir, a.files} {
		pieces, err := filepath.Glob(filepath.Join(escape(dir), "*.tmp"))
		if err != nil {
			return fmt.Errorf("looking for pieces of files: %w", err)
		}
		for _, path := range pieces {
			if err := erase(path); err != nil {
				return fmt.Errorf("removing a piece of a file: %w", err)
			}
		}
	}
	return nil
}

// escape keeps a folder's name from being a pattern.
func escape(dir string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(dir)
}

// open opens the records, or makes the first ones, and seals what an older version
// left in the clear.
func (a *App) open() (*synthetic.State[records], error) {
	ctx := context.Background()
	if err := a.migrateRecords(); err != nil {
		return nil, err
	}
	state, err := synthetic.OpenCoded(a.dir, "medicloud", a.vault, func() (*records, error) { return a.first(ctx) })
	if err != nil {
		return nil, err
	}
	known := map[string]Document{}
	for _, d := range state.View().Documents {
		known[d.ID] = d
	}
	list, err := os.ReadDir(a.files)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	moved := 0
	for _, e := range list {
		if strings.HasSuffix(e.Name(), ".sealed") || !e.Type().IsRegular() {
			continue
		}
		d, ok := known[e.Name()]
		switch err := a.migrate(ctx, e.Name(), d, ok); {
		case errors.Is(err, errAway), errors.Is(err, errBroken):
			return nil, err
		case err != nil:
			a.log.Error("a document lies in the clear and cannot be sealed; look at it and move it away", "file", filepath.Join(a.files, e.Name()), "err", err)
		default:
			moved++
		}
	}
	if moved > 0 {
		a.log.Warn("documents that lay in the clear are sealed; old copies of the disk and deleted blocks may still show them", "documents", moved)
	}
	return state, nil
}

// migrateRecords seals the records of an older version, reads them back, and removes
// the old file.
func (a *App) migrateRecords() error {
	old := filepath.Join(a.dir, "medicloud.json")
	if _, err := os.Stat(old); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	plain, err := synthetic.OpenState(a.dir, "medicloud", func() (*records, error) { return nil, fs.ErrNotExist })
	if err != nil {
		return err
	}
	if _, err := synthetic.OpenCoded(a.dir, "medicloud", a.vault, func() (*records, error) { return plain.View(), nil }); err != nil {
		return err
	}
	back, err := synthetic.OpenCoded(a.dir, "medicloud", a.vault, func() (*records, error) { return nil, fs.ErrNotExist })
	if err != nil {
		return err
	}
	was, err1 := json.Marshal(plain.View())
	is, err2 := json.Marshal(back.View())
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if !bytes.Equal(was, is) {
		return fmt.Errorf("%s and medicloud.sealed beside it are different; move the one that is older away", old)
	}
	return erase(old)
}

// migrate seals a document that lies in the clear, compares, and removes the clear
// file. One without a record, which a crash has left, is sealed as it is.
func (a *App) migrate(ctx context.Context, id string, d Document, known bool) error {
	old := filepath.Join(a.files, id)
	if !known {
		d = Document{ID: id}
	}
	if _, err := os.Stat(a.path(id)); errors.Is(err, fs.ErrNotExist) {
		f, err := os.Open(old)
		if err != nil {
			return err
		}
		defer f.Close()
		made := Document{ID: id}
		m := &measure{src: f, most: 1 << 62, sum: sha256.New()}
		body, err := a.vault.stream(ctx, "seal", forDocument, id, "", m)
		if err != nil {
			return err
		}
		defer body.Close()
		err = synthetic.WriteFrom(a.path(id), body, func(tmp string) error {
			_ = m.Close()
			made.Size, made.SHA256 = m.size, hex.EncodeToString(m.sum.Sum(nil))
			if known && made.SHA256 != d.SHA256 {
				return errors.New("the content is not what was uploaded")
			}
			d = made
			return a.compare(ctx, tmp, made)
		})
		if err != nil {
			return err
		}
	} else if !known {
		return errors.New("it has no record, and is there sealed and in the clear")
	} else if err := a.compare(ctx, a.path(id), d); err != nil {
		return err
	}
	return erase(old)
}

// erase overwrites a file and removes it. On many disks and file systems the old
// blocks stay all the same; it is no more than what can be done from here.
func erase(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		_, err = io.CopyN(f, zeros{}, info.Size())
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close(), os.Remove(path))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
