package loopback

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	minToken = 32
	maxToken = 4096
	// lookEvery is how old the last look at the file may be for a token that it says is right.
	lookEvery = time.Second
)

// TokenFile is the callers' credential: a file that the calling program can read and others cannot. It is read again and
// again, so that a new token needs no reload: a new one is right at once, an old one for lookEvery at most, because a look
// for each request would cost as much as the rest of a cheap one. Only its digest is kept.
type TokenFile struct {
	path string
	now  func() time.Time

	mu     sync.Mutex // guards what follows
	looked time.Time
	digest [sha256.Size]byte
	err    error
}

// OpenTokenFile reads the file once, so that a mistake is found when the configuration loads.
func OpenTokenFile(path string) (*TokenFile, error) {
	t := &TokenFile{path: path, now: time.Now}
	if err := t.refresh(); err != nil {
		return nil, err
	}
	return t, nil
}

// refresh reads the file. After an error no token is right until the file is. What a file's times and size say is not asked: a
// copy with its times kept would look like the token before it.
func (t *TokenFile) refresh() error {
	t.looked = t.now()
	t.err = t.read()
	return t.err
}

// read checks what was opened, because that is what counts. O_NONBLOCK: opening a pipe would wait for a writer for ever.
func (t *TokenFile) read() error {
	f, err := os.OpenFile(t.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("reading token file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("reading token file: %w", err)
	}
	if err := t.checkMode(info); err != nil {
		return err
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxToken+3)) // with the end of its line
	if err != nil {
		return fmt.Errorf("reading token file: %w", err)
	}
	defer clear(raw)
	text := strings.TrimSuffix(strings.TrimSuffix(string(raw), "\n"), "\r")
	switch {
	case len(text) < minToken || len(text) > maxToken:
		return fmt.Errorf("reading token file: %s has not %d to %d characters; make one with: openssl rand -hex 32", t.path, minToken, maxToken)
	case strings.IndexFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0:
		return fmt.Errorf("reading token file: %s has blanks or characters that are not ASCII in it; make one with: openssl rand -hex 32", t.path)
	}
	t.digest = sha256.Sum256([]byte(text))
	return nil
}

func (t *TokenFile) checkMode(info os.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("reading token file: %s is not a regular file", t.path)
	}
	if info.Mode().Perm()&0o007 != 0 {
		return fmt.Errorf("reading token file: %s can be used by every user of this host (mode %04o); run: chmod o= %s", t.path, info.Mode().Perm(), t.path)
	}
	return nil
}

// errToken is the one answer to a wrong token.
var errToken = fmt.Errorf("%w: not the right token", ErrCredential)

// check compares in constant time, as digests: neither content nor length of the right token shows. A file that cannot be
// read makes every token wrong (and is told apart, so that the operator hears of it).
func (t *TokenFile) check(token string) error {
	var room [128]byte // most tokens fit; a conversion would leave a copy of each on the heap
	got := sha256.Sum256(append(room[:0], token...))
	t.mu.Lock()
	defer t.mu.Unlock()
	fresh := t.err == nil && t.now().Sub(t.looked) < lookEvery
	if fresh && subtle.ConstantTimeCompare(got[:], t.digest[:]) == 1 {
		return nil
	}
	if err := t.refresh(); err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(got[:], t.digest[:]) != 1 {
		return errToken
	}
	return nil
}

// Format prints the path for every verb; the digest of a short token could be searched.
func (t *TokenFile) Format(f fmt.State, _ rune) { fmt.Fprint(f, t.String()) }

// String names the file.
func (t *TokenFile) String() string { return "token file " + t.path }

// LogValue logs the path.
func (t *TokenFile) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalJSON writes a fixed word.
func (t *TokenFile) MarshalJSON() ([]byte, error) { return []byte(`"token file"`), nil }
