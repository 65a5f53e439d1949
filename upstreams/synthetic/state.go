package synthetic

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// State is the records of one app, of a type T that JSON can carry, in one file.
type State[T any] struct {
	path   string
	format string
	coder  Coder      // nil: as it is
	mu     sync.Mutex // one writer; readers need no lock
	now    atomic.Pointer[T]
}

// file is what stands on the disk. The format names the app, so that a file of
// another app is refused instead of read as an empty one.
type file[T any] struct {
	Format string `json:"format"`
	Data   *T     `json:"data"`
}

// Coder turns the text of a state file into what lies on the disk, and back.
type Coder interface {
	Encode([]byte) ([]byte, error)
	Decode([]byte) ([]byte, error)
}

// OpenState reads name.json in dir, which is made (0700) when absent. Without a
// file it calls first for the initial records and writes them. A file that is
// damaged or of another app gives an error with its path; it is left alone.
func OpenState[T any](dir, name string, first func() (*T, error)) (*State[T], error) {
	return openState(dir, name, name+".json", nil, first)
}

// OpenCoded is OpenState for a file that a Coder writes, name.sealed in dir. What
// the Coder cannot do now it can later: its errors come as they are.
func OpenCoded[T any](dir, name string, coder Coder, first func() (*T, error)) (*State[T], error) {
	return openState(dir, name, name+".sealed", coder, first)
}

func openState[T any](dir, name, file string, coder Coder, first func() (*T, error)) (*State[T], error) {
	if dir == "" {
		return nil, errors.New("opening state: no folder given")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening state: %w", err)
	}
	s := &State[T]{path: filepath.Join(dir, file), format: name + "/1", coder: coder}
	raw, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		data, err := first()
		if err != nil {
			return nil, fmt.Errorf("making the first records of %s: %w", name, err)
		}
		return s, s.save(data)
	}
	if err != nil {
		return nil, fmt.Errorf("opening state: %w", err)
	}
	if coder != nil {
		if raw, err = coder.Decode(raw); err != nil {
			return nil, fmt.Errorf("opening state: the file %s: %w", s.path, err)
		}
	}
	data, err := s.decode(raw)
	if err != nil {
		return nil, fmt.Errorf("opening state: the file %s is damaged and was left as it is; restore it, or move it away to begin anew: %w", s.path, err)
	}
	s.now.Store(data)
	return s, nil
}

// View returns the records as they are now. They are shared and must not be
// changed; a later Change does not touch them.
func (s *State[T]) View() *T { return s.now.Load() }

// Change calls fn with a copy of the records and writes what fn left. When fn
// or the writing fails, everything stays as it was and the error is returned.
func (s *State[T]) Change(fn func(*T) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	raw, err := s.encode(s.now.Load())
	if err != nil {
		return err
	}
	next, err := s.decode(raw)
	if err != nil {
		return fmt.Errorf("copying the records of %s: %w", s.format, err)
	}
	if err := fn(next); err != nil {
		return err
	}
	return s.save(next)
}

func (s *State[T]) encode(data *T) ([]byte, error) {
	raw, err := json.MarshalIndent(file[T]{Format: s.format, Data: data}, "", " ")
	if err != nil {
		return nil, fmt.Errorf("encoding the records of %s: %w", s.format, err)
	}
	return append(raw, '\n'), nil
}

func (s *State[T]) decode(raw []byte) (*T, error) {
	var f file[T]
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows the end of the JSON text")
	}
	if f.Format != s.format || f.Data == nil {
		return nil, fmt.Errorf("format is %q, expected %q with data", f.Format, s.format)
	}
	return f.Data, nil
}

func (s *State[T]) save(data *T) error {
	raw, err := s.encode(data)
	if err == nil && s.coder != nil {
		raw, err = s.coder.Encode(raw)
	}
	if err != nil {
		return err
	}
	if err := WriteFile(s.path, raw); err != nil {
		return fmt.Errorf("saving state: %w", err)
	}
	s.now.Store(data)
	return nil
}

// WriteFile puts data at path in one step and returns when it is on the disk: a
// crash leaves the old file or the new one, never a piece. The mode is 0600.
func WriteFile(path string, data []byte) error {
	return WriteFrom(path, bytes.NewReader(data), nil)
}

// WriteFrom is WriteFile of what src gives. When check is not nil it is called with
// the finished file before that takes the place of another one, and can refuse it.
func WriteFrom(path string, src io.Reader, check func(tmp string) error) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, src)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil && check != nil {
		err = check(tmp)
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
