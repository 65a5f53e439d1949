package medicloud

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/anteroom-proxy/anteroom/upstreams/synthetic"
)

// path is where a document lies. id always comes from a record, so it is one
// that this app made.
func (a *App) path(id string) string { return filepath.Join(a.files, id+".sealed") }

func newID() string {
	var id [12]byte
	_, _ = rand.Read(id[:]) // never fails: crypto/rand ends the process instead
	return "d" + hex.EncodeToString(id[:])
}

// upload is what a person sends, without the content.
type upload struct {
	Patient string
	Name    string
	Note    string
}

// add keeps a document whose file is there already: first the file, then the
// record of it. A crash between the two leaves a sealed file that nobody sees,
// never a record without its file. When it fails the file goes again.
func (a *App) add(in upload, d Document) (_ Document, err error) {
	defer func() {
		if err != nil && d.ID != "" {
			_ = os.Remove(a.path(d.ID)) // what stays is sealed, and nobody has a record of it
		}
	}()
	if _, err := synthetic.NeedPatient(in.Patient, http.StatusUnprocessableEntity); err != nil {
		return d, err
	}
	d.Patient, d.Name, d.Uploaded = in.Patient, cleanName(in.Name), a.now().UTC().Truncate(time.Second)
	if in.Note != "" {
		if d.Note, err = synthetic.Line("note", in.Note, 200); err != nil {
			return d, err
		}
	}
	if d.ID == "" || d.Size == 0 {
		return d, synthetic.Refuse(http.StatusUnprocessableEntity, "Please choose a file that is not empty.")
	}
	state, err := a.records()
	if err != nil {
		return d, err
	}
	err = state.Change(func(r *records) error {
		r.Documents = append(r.Documents, d)
		return nil
	})
	if err != nil {
		return d, a.vault.refuse(err, "records")
	}
	return d, nil
}

// keep seals content into the file of a document, as it comes, and notes what it
// is. Nothing of it touches the disk in the clear, and no more than a few chunks
// of it are in memory.
func (a *App) keep(ctx context.Context, d *Document, content io.Reader) error {
	if err := os.MkdirAll(a.files, 0o700); err != nil {
		return fmt.Errorf("storing a document: %w", err)
	}
	m := &measure{src: content, most: a.maxFile, sum: sha256.New(), utf8: true}
	body, err := a.vault.stream(ctx, "seal", forDocument, d.ID, "", m)
	if err == nil {
		err = synthetic.WriteFrom(a.path(d.ID), body, func(tmp string) error {
			_ = m.Close()
			s, err := openSealed(ctx, a.vault, tmp, d.ID, m.size) // which looks at the length
			if err == nil {
				err = s.Close()
			}
			if errors.Is(err, errDamaged) {
				err = fmt.Errorf("%w: %w", errBroken, err)
			}
			return err
		})
		_ = body.Close()
	}
	_ = m.Close()
	if cause := m.failed(); cause != nil {
		err = cause // the service saw only that its source broke
	}
	switch {
	case errors.Is(err, errTooLong):
		err = a.tooLarge()
	case err != nil && m.failed() == nil:
		err = a.vault.refuse(err, d.ID)
	}
	if err != nil {
		_ = os.Remove(a.path(d.ID))
		return err
	}
	d.Type, d.Size, d.SHA256 = m.kind(), m.size, hex.EncodeToString(m.sum.Sum(nil))
	return nil
}

var errTooLong = errors.New("the document is too long")

// measure passes content on and notes what it sees. Whoever sends it may go on
// reading for a moment after a failure: Close ends that, and only then may it be
// asked, and its source be read by somebody else.
type measure struct {
	mu sync.Mutex // guards what follows

	closed bool
	src    io.Reader
	most   int64
	size   int64
	sum    hash.Hash
	head   []byte // the first bytes, which tell the type
	utf8   bool   // so far
	rest   []byte // a character that is not whole yet
	err    error  // of src
}

const headLen = 512

// Read implements io.Reader.
func (m *measure) Read(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return 0, io.ErrClosedPipe
	}
	if m.err != nil {
		return 0, m.err
	}
	n, err := m.src.Read(p)
	m.size += int64(n)
	if m.size > m.most {
		m.err = errTooLong
		return 0, m.err
	}
	_, _ = m.sum.Write(p[:n]) // a hash takes everything
	m.head = append(m.head, p[:min(n, headLen-len(m.head))]...)
	if m.utf8 {
		m.rest = append(m.rest, p[:n]...)
		for len(m.rest) > 0 && utf8.FullRune(m.rest) && m.utf8 {
			r, size := utf8.DecodeRune(m.rest)
			m.utf8 = r != utf8.RuneError || size != 1
			m.rest = m.rest[size:]
		}
		m.rest = append([]byte(nil), m.rest...)
	}
	if err != nil {
		m.err = err
	}
	return n, err
}

// Close ends the reading; a Read that has begun ends first.
func (m *measure) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

// failed is the error of the source.
func (m *measure) failed() error {
	if errors.Is(m.err, io.EOF) {
		return nil
	}
	return m.err
}

// kind is the type of the content.
func (m *measure) kind() string { return contentType(m.head, m.utf8 && len(m.rest) == 0) }
