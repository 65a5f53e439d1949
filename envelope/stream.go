package envelope

import (
	"bufio"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A sealed stream is a header and one chunk or more. Numbers are big-endian.
//
//	offset        length  what
//	0             8       "ANTRSTR" and the version, 0x01
//	8             2       N, the length of the sealed document key, 1 to 1024
//	10            N       the document key, 32 random bytes, sealed as every value is (see the
//	                      package comment): its bytes 1 to 8 are the id of the data key, which
//	                      therefore stand at 11 to 18 of the stream
//	10+N          65552   chunk 0: AES-256-GCM of 65536 bytes of plaintext, and its tag of 16
//	10+N+65552    65552   chunk 1, and so on
//	…             16+L    the last chunk: 1 to 65536 bytes of plaintext; of an empty document
//	                      chunk 0 is the last one and has none
//
// So a document of P bytes takes 10 + N + P + 16·max(1, ⌈P/65536⌉) bytes, and byte B of it is
// in chunk ⌊B/65536⌋, which begins at 10 + N + 65552·⌊B/65536⌋. Whoever wants a part of a
// document needs the header and the chunks that the part is in, nothing else.
//
// The key of the chunks is HKDF-SHA-256 (RFC 5869) of the document key, without a salt,
// under labelChunks. The nonce of a chunk is its number in 11 bytes and one byte that is 1
// for the last chunk and 0 for every other one: the STREAM construction (Hoang, Reyhanitabar,
// Rogaway and Vizár, "Online Authenticated-Encryption and its Nonce-Reuse
// Misuse-Resistance", 2015). A document key serves one document once, so that no nonce comes
// twice. A chunk opens in its own place of its own document only: chunks cut off, put in,
// swapped, doubled, or taken from another document are refused, and so is what follows the
// last one. The document key is bound to tenant, purpose and record id.
const (
	streamMagic  = "ANTRSTR\x01"
	headerPrefix = len(streamMagic) + 2
	maxSealedKey = 1024
	chunkLen     = 64 << 10
	chunkTag     = 16
	sealedChunk  = chunkLen + chunkTag
	maxChunks    = 1 << 40 // 64 PiB; far below what the counter holds
)

// subject is what a sealed value or a stream belongs to. It opens for the same three only.
type subject struct{ tenant, purpose, id string }

// label is the subject under the label of its kind, each part with its length in front, so
// that no two subjects have one label.
func (s subject) label(kind string) string {
	b := []byte(kind)
	for _, part := range []string{s.tenant, s.purpose, s.id} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	return string(b)
}

// span says which chunks of a document the bytes behind the header are.
type span struct {
	first uint64 // number of the first one
	more  bool   // the document goes on behind the last one of them
}

// errSource says that what was to be read ended early or could not be read: the client's doing.
var errSource = errors.New("the body ended early")

// source tells a body that was cut short, which reads as io.ErrUnexpectedEOF, from one that ended: io.ReadFull says the same of
// both.
type source struct{ io.Reader }

func (s source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = errSource
	}
	return n, err
}

// sealStream seals src into dst under a new document key. Nothing is written before the first
// chunk has been read whole. When it fails dst has no last chunk, and does not open.
func sealStream(ctx context.Context, v sealer, s subject, dst io.Writer, src io.Reader) error {
	document := make([]byte, 32)
	_, _ = rand.Read(document) // never fails: crypto/rand ends the process instead
	defer clear(document)
	sealed, err := v.Seal(ctx, s.label(labelDocument), document)
	if err != nil {
		return fmt.Errorf("sealing a document key: %w", err)
	}
	header, err := streamHeader(sealed)
	if err != nil {
		return err
	}
	aead, err := chunkCipher(document)
	if err != nil {
		return err
	}
	src = source{src}
	plain, out := make([]byte, chunkLen+1), make([]byte, 0, len(header)+sealedChunk)
	defer clear(plain)
	out = append(out, header...)
	for number, have := uint64(0), 0; ; number++ {
		// One byte more than a chunk tells whether this is the last one.
		n, err := io.ReadFull(src, plain[have:])
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return fmt.Errorf("%w: %w", errSource, err)
		}
		if number >= maxChunks {
			return fmt.Errorf("%w: too long", errTooLarge)
		}
		have = min(have+n, chunkLen)
		out = aead.Seal(out, chunkNonce(number, last), plain[:have], nil)
		if _, err := dst.Write(out); err != nil {
			return fmt.Errorf("writing a stream: %w", err)
		}
		if last {
			return nil
		}
		plain[0], have, out = plain[chunkLen], 1, out[:0]
	}
}

// openStream writes the plaintext of a sealed stream, or of the chunks that part names, to
// dst: no byte before the chunk that it is in was verified. Only when it returns nil was
// that all; what was written before an error is genuine, and not the whole.
func openStream(ctx context.Context, v sealer, s subject, part span, dst io.Writer, src io.Reader) error {
	src = source{src}
	sealed, err := readHeader(src)
	if err != nil {
		return err
	}
	aead, err := openKey(ctx, v, s, sealed)
	if err != nil {
		return err
	}
	buf := make([]byte, sealedChunk+1)
	defer clear(buf)
	for number, have := part.first, 0; ; number++ {
		n, err := io.ReadFull(src, buf[have:])
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !end {
			return fmt.Errorf("%w: %w", errSource, err)
		}
		if number >= maxChunks {
			return fmt.Errorf("%w: the chunk's number is too large", ErrSealed)
		}
		have += n
		next := buf[sealedChunk] // of the next chunk, when this is not the end
		plain, err := openChunk(aead, number, end && !part.more, number == 0, buf[:min(have, sealedChunk)])
		if err != nil {
			return err
		}
		if len(plain) > 0 {
			if _, err := dst.Write(plain); err != nil {
				return fmt.Errorf("writing a document: %w", err)
			}
		}
		if end {
			return nil
		}
		buf[0], have = next, 1
	}
}

// openChunk verifies and decrypts one chunk in place.
func openChunk(aead cipher.AEAD, number uint64, last, first bool, chunk []byte) ([]byte, error) {
	switch {
	case len(chunk) < chunkTag, len(chunk) == chunkTag && !(first && last):
		return nil, fmt.Errorf("%w: it ends inside a chunk, or before its last one", ErrSealed)
	case !last && len(chunk) != sealedChunk:
		return nil, fmt.Errorf("%w: a chunk that is not the last one is not whole", ErrSealed)
	}
	plain, err := aead.Open(chunk[:0], chunkNonce(number, last), chunk, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: chunk %d was changed, is not in its place, or is not the last one", ErrSealed, number)
	}
	return plain, nil
}

// resealStream opens and seals again, under a new document key: whoever knew the old one,
// because the data key above it became known, can open nothing of the new stream.
func resealStream(ctx context.Context, v sealer, s subject, dst io.Writer, src io.Reader) error {
	pr, pw := io.Pipe()
	opened := make(chan error, 1)
	go func() { // ends with src, or when the sealing half closes the pipe
		err := openStream(ctx, v, s, span{}, pw, src)
		opened <- err
		_ = pw.CloseWithError(err) // nil reads as io.EOF
	}()
	sealErr := sealStream(ctx, v, s, dst, bufio.NewReaderSize(pr, chunkLen))
	_ = pr.CloseWithError(errClosed)
	if err := <-opened; err != nil && !errors.Is(err, errClosed) {
		return err // the cause; the sealing half saw only that its source broke
	}
	return sealErr
}

var errClosed = errors.New("the other half of the stream has ended")

// resealHeader seals the document key of a header anew under the primary data key; the chunks
// stay as they are. That is enough for a data key that grew old, and not for one that became
// known: whoever copied the old header then has the document key.
func resealHeader(ctx context.Context, v Vault, s subject, header []byte) ([]byte, bool, error) {
	sealed, err := parseHeader(header)
	if err != nil {
		return nil, false, err
	}
	out, changed, err := v.Reseal(ctx, s.label(labelDocument), sealed)
	if err != nil {
		return nil, false, fmt.Errorf("sealing a document key anew: %w", err)
	}
	header, err = streamHeader(out)
	return header, changed, err
}

func openKey(ctx context.Context, v sealer, s subject, sealed []byte) (cipher.AEAD, error) {
	document, err := v.Open(ctx, s.label(labelDocument), sealed)
	if err != nil {
		return nil, fmt.Errorf("opening a document key: %w", err)
	}
	defer clear(document)
	if len(document) != 32 {
		return nil, fmt.Errorf("%w: the document key has not 32 bytes", ErrSealed)
	}
	return chunkCipher(document)
}

func chunkCipher(document []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, document, nil, labelChunks, 32)
	if err != nil {
		return nil, fmt.Errorf("deriving the key of a stream: %w", err)
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("making the cipher of a stream: %w", err)
	}
	return cipher.NewGCM(block)
}

func chunkNonce(number uint64, last bool) []byte {
	nonce := make([]byte, 12)
	binary.BigEndian.PutUint64(nonce[3:], number)
	if last {
		nonce[11] = 1
	}
	return nonce
}

func streamHeader(sealed []byte) ([]byte, error) {
	if len(sealed) == 0 || len(sealed) > maxSealedKey {
		return nil, fmt.Errorf("making the header of a stream: the sealed key has %d bytes", len(sealed))
	}
	return append(binary.BigEndian.AppendUint16([]byte(streamMagic), uint16(len(sealed))), sealed...), nil
}

// readHeader reads a header and returns the sealed document key.
func readHeader(src io.Reader) ([]byte, error) {
	read := func(b []byte) error {
		switch _, err := io.ReadFull(src, b); {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return fmt.Errorf("%w: it ends inside the header of a stream", ErrSealed)
		case err != nil:
			return fmt.Errorf("%w: %w", errSource, err)
		}
		return nil
	}
	prefix := make([]byte, headerPrefix)
	if err := read(prefix); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(prefix[len(streamMagic):]))
	if string(prefix[:len(streamMagic)]) != streamMagic || n == 0 || n > maxSealedKey {
		return nil, fmt.Errorf("%w: it does not begin like a sealed stream", ErrSealed)
	}
	sealed := make([]byte, n)
	return sealed, read(sealed)
}

// parseHeader wants a header and nothing behind it.
func parseHeader(header []byte) ([]byte, error) {
	if len(header) < headerPrefix || string(header[:len(streamMagic)]) != streamMagic {
		return nil, fmt.Errorf("%w: it is not the header of a sealed stream", ErrSealed)
	}
	n := int(binary.BigEndian.Uint16(header[len(streamMagic):]))
	if n == 0 || n > maxSealedKey || len(header) != headerPrefix+n {
		return nil, fmt.Errorf("%w: it is not exactly the header of a sealed stream", ErrSealed)
	}
	return header[headerPrefix:], nil
}
