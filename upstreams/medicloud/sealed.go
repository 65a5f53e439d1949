package medicloud

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// The format of a sealed stream, as far as this app needs it: 8 bytes of magic, the length N
// of the sealed key (2, big-endian), N bytes of it, and chunks of 65536 bytes, each with 16
// more. Bytes 11 to 18 of the whole are the id of the key.
const (
	magic     = "ANTRSTR\x01"
	prefixLen = len(magic) + 2
	chunkLen  = 64 << 10
	chunkTag  = 16
	maxKey    = 1024
	window    = 16 // chunks that are opened at once
)

var errDamaged = errors.New("the file is not as long as the document")

// sealedFile reads the content of a sealed file, from wherever one likes: it sends the
// header and the chunks that it needs to the vault, some at a time. It is an
// io.ReadSeekCloser.
type sealedFile struct {
	ctx    context.Context
	vault  *vault
	id     string
	file   *os.File
	header []byte
	size   int64 // of the content
	pos    int64
	ahead  int    // chunks of the next window
	buf    []byte // opened content
	bufAt  int64  // where it begins
	err    error  // that reading ended with
}

// openSealed opens the file of a document; size is what its record says. A file of
// another length is refused: somebody cut it, or put another one there.
func openSealed(ctx context.Context, v *vault, path, id string, size int64) (*sealedFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	s := &sealedFile{ctx: ctx, vault: v, id: id, file: f, size: size, ahead: 1}
	if err := s.check(); err != nil {
		_ = f.Close()
		return nil, err
	}
	return s, nil
}

func (s *sealedFile) check() error {
	prefix := make([]byte, prefixLen)
	if _, err := io.ReadFull(s.file, prefix); err != nil {
		return fmt.Errorf("%w: reading the header: %w", errDamaged, err)
	}
	n := int(binary.BigEndian.Uint16(prefix[len(magic):]))
	if string(prefix[:len(magic)]) != magic || n == 0 || n > maxKey {
		return fmt.Errorf("%w: it does not begin like a sealed file", errDamaged)
	}
	s.header = append(prefix, make([]byte, n)...)
	if _, err := io.ReadFull(s.file, s.header[prefixLen:]); err != nil {
		return fmt.Errorf("%w: reading the header: %w", errDamaged, err)
	}
	info, err := s.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() != int64(len(s.header))+s.size+chunkTag*s.chunks() {
		return errDamaged
	}
	return nil
}

// fits says whether the bytes are as long as so much content is when it is sealed.
func fits(sealed []byte, size int64) bool {
	if len(sealed) < prefixLen || string(sealed[:len(magic)]) != magic {
		return false
	}
	n := int64(binary.BigEndian.Uint16(sealed[len(magic):]))
	return int64(len(sealed)) == int64(prefixLen)+n+size+chunkTag*(&sealedFile{size: size}).chunks()
}

// chunks is how many chunks the content has.
func (s *sealedFile) chunks() int64 { return max(1, (s.size+chunkLen-1)/chunkLen) }

// Read opens the next chunks when it has to.
func (s *sealedFile) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if s.pos >= s.size {
		return 0, io.EOF
	}
	if s.pos < s.bufAt || s.pos >= s.bufAt+int64(len(s.buf)) {
		if s.err = s.fetch(); s.err != nil {
			return 0, s.err
		}
	}
	n := copy(p, s.buf[s.pos-s.bufAt:])
	s.pos += int64(n)
	return n, nil
}

// fetch opens the chunk that pos is in, and some behind it.
func (s *sealedFile) fetch() error {
	first := s.pos / chunkLen
	count := min(int64(s.ahead), s.chunks()-first)
	s.ahead = min(2*s.ahead, window)
	more := fmt.Sprintf("&first=%d", first)
	if first+count < s.chunks() {
		more += "&more=1"
	}
	ctx, cancel := context.WithTimeout(s.ctx, 30*time.Second)
	defer cancel()
	section := io.NewSectionReader(s.file, int64(len(s.header))+first*(chunkLen+chunkTag), count*(chunkLen+chunkTag))
	body, err := s.vault.stream(ctx, "open", forDocument, s.id, more, io.MultiReader(bytes.NewReader(s.header), section))
	if err != nil {
		return err
	}
	defer body.Close()
	want := min(count*chunkLen, s.size-first*chunkLen)
	if int64(cap(s.buf)) < want {
		s.buf = make([]byte, want)
	}
	s.buf, s.bufAt = s.buf[:want], first*chunkLen
	_, err = io.ReadFull(body, s.buf)
	if err == nil { // only a clean end says that all of it was verified
		if _, err = io.ReadFull(body, make([]byte, 1)); errors.Is(err, io.EOF) {
			return nil
		}
	}
	s.buf = s.buf[:0]
	return fmt.Errorf("opening chunk %d and %d more: %w", first, count-1, err)
}

// Seek says where to read next.
func (s *sealedFile) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += s.pos
	case io.SeekEnd:
		offset += s.size
	}
	if offset < 0 {
		return 0, errors.New("seeking before the beginning")
	}
	s.pos = offset
	return offset, nil
}

// prime opens the chunk at offset, so that what cannot be opened is known before an answer begins.
func (s *sealedFile) prime(offset int64) error {
	if s.size == 0 {
		return nil
	}
	s.pos = min(max(offset, 0), s.size-1)
	s.err = s.fetch()
	s.pos = 0
	return s.err
}

// Close closes the file and forgets the content.
func (s *sealedFile) Close() error {
	clear(s.buf[:cap(s.buf)])
	return s.file.Close()
}

// keyOf reads the id of the key that a file is sealed under.
func keyOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, prefixLen+9)
	if _, err := io.ReadFull(f, head); err != nil || string(head[:len(magic)]) != magic {
		return "", fmt.Errorf("%w: it does not begin like a sealed file", errDamaged)
	}
	return fmt.Sprintf("%x", head[prefixLen+1:]), nil
}
