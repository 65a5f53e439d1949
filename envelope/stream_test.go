package envelope

import (
	"bytes"
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
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

// clearVault seals nothing: it puts the label in front, behind a header of the right shape, and remembers what it was asked.
// The streams are tested on their own, and a test can look into them.
type clearVault struct {
	id   byte
	keys []KeyInfo
	err  error
}

func (v *clearVault) Seal(_ context.Context, label string, plain []byte) ([]byte, error) {
	if v.err != nil {
		return nil, v.err
	}
	out := append([]byte{version2}, bytes.Repeat([]byte{v.id}, keyIDLen)...)
	sum := sha256.Sum256([]byte(label))
	return append(append(out, sum[:]...), plain...), nil
}

func (v *clearVault) Open(_ context.Context, label string, sealed []byte) ([]byte, error) {
	sum := sha256.Sum256([]byte(label))
	switch {
	case v.err != nil:
		return nil, v.err
	case len(sealed) < headerLen+32 || sealed[0] != version2 || !bytes.Equal(sealed[headerLen:headerLen+32], sum[:]):
		return nil, ErrSealed
	}
	return bytes.Clone(sealed[headerLen+32:]), nil
}

func (v *clearVault) Reseal(ctx context.Context, label string, sealed []byte) ([]byte, bool, error) {
	plain, err := v.Open(ctx, label, sealed)
	if err != nil {
		return nil, false, err
	}
	out, err := v.Seal(ctx, label, plain)
	return out, !bytes.Equal(out, sealed), err
}

func (v *clearVault) Keys() []KeyInfo { return v.keys }

var letter = subject{"clinic", "documents", "d1"}

func sealed(t testing.TB, s subject, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := sealStream(t.Context(), &clearVault{}, s, &b, bytes.NewReader(plain)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func opened(t testing.TB, s subject, part span, stream []byte) ([]byte, error) {
	t.Helper()
	var b bytes.Buffer
	err := openStream(t.Context(), &clearVault{}, s, part, &b, bytes.NewReader(stream))
	return b.Bytes(), err
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// headerOf is how long the header of a stream is.
func headerOf(stream []byte) int { return headerPrefix + int(binary.BigEndian.Uint16(stream[8:])) }

// TestStreamSizes: every length around the borders of a chunk comes back, and takes the space that the format says.
func TestStreamSizes(t *testing.T) {
	for _, n := range []int{0, 1, 15, 16, 17, chunkLen - 1, chunkLen, chunkLen + 1, 2*chunkLen - 1, 2 * chunkLen, 2*chunkLen + 1, 5*chunkLen + 77} {
		plain := random(n)
		stream := sealed(t, letter, plain)
		chunks := max(1, (n+chunkLen-1)/chunkLen)
		if want := headerOf(stream) + n + 16*chunks; len(stream) != want {
			t.Errorf("%d bytes: the stream has %d, want %d", n, len(stream), want)
		}
		if got, err := opened(t, letter, span{}, stream); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: %d came back, %v", n, len(got), err)
		}
		// What a reader gives in small pieces is the same.
		var b bytes.Buffer
		if err := openStream(t.Context(), &clearVault{}, letter, span{}, &b, iotestOneByte{bytes.NewReader(stream)}); err != nil || !bytes.Equal(b.Bytes(), plain) {
			t.Errorf("%d bytes, byte by byte: %v", n, err)
		}
	}
}

type iotestOneByte struct{ io.Reader }

func (r iotestOneByte) Read(p []byte) (int, error) { return r.Reader.Read(p[:min(1, len(p))]) }

// TestStreamFormat opens a stream with nothing but what the format says, so that an application can do it.
func TestStreamFormat(t *testing.T) {
	plain := random(2*chunkLen + 5)
	stream := sealed(t, letter, plain)
	if string(stream[:8]) != "ANTRSTR\x01" {
		t.Errorf("it begins with %q", stream[:8])
	}
	n := int(stream[8])<<8 | int(stream[9])
	document := stream[10+n-32 : 10+n] // clearVault keeps it at the end
	key, err := hkdf.Key(sha256.New, document, nil, "anteroom/envelope/chunks/v1", 32)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := aes.NewCipher(key)
	gcm, _ := cipher.NewGCM(block)
	var got []byte
	for i, rest := 0, stream[10+n:]; len(rest) > 0; i++ {
		chunk := rest[:min(65552, len(rest))]
		rest = rest[len(chunk):]
		nonce := []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(i), 0}
		if len(rest) == 0 {
			nonce[11] = 1
		}
		if got, err = gcm.Open(got, nonce, chunk, nil); err != nil {
			t.Fatalf("chunk %d: %v", i, err)
		}
	}
	if !bytes.Equal(got, plain) {
		t.Error("another content")
	}
}

// TestStreamGolden: a stream of yesterday opens tomorrow.
func TestStreamGolden(t *testing.T) {
	path := filepath.Join("testdata", "stream-v1")
	stream, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := opened(t, letter, span{}, stream); err != nil || string(got) != "Discharge letter\n" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestStreamAttacks: whoever can write the disk where sealed streams lie can make them fail, and nothing else: not cut a
// document, not mend a new one from parts.
func TestStreamAttacks(t *testing.T) {
	plain, other := random(3*chunkLen+100), random(3*chunkLen+100)
	stream, second := sealed(t, letter, plain), sealed(t, letter, other)
	head := headerOf(stream)
	chunk := func(s []byte, i int) []byte { return s[head+i*sealedChunk : min(head+(i+1)*sealedChunk, len(s))] }
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	whole := sealed(t, letter, random(2*chunkLen)) // ends at a border
	single, empty := sealed(t, letter, []byte("one")), sealed(t, letter, nil)
	for name, bad := range map[string][]byte{
		"nothing":                               {},
		"the header alone":                      stream[:head],
		"half of the header":                    stream[:head/2],
		"cut inside a chunk":                    stream[:head+sealedChunk+5],
		"cut at a chunk's border":               stream[:head+2*sealedChunk],
		"cut inside the last tag":               stream[:len(stream)-1],
		"without the last chunk":                stream[:head+3*sealedChunk],
		"a document that ends at a border, cut": whole[:head+sealedChunk],
		"chunks swapped":                        join(stream[:head], chunk(stream, 1), chunk(stream, 0), chunk(stream, 2), chunk(stream, 3)),
		"a chunk doubled":                       join(stream[:head], chunk(stream, 0), chunk(stream, 0), chunk(stream, 1), chunk(stream, 2), chunk(stream, 3)),
		"a chunk left out":                      join(stream[:head], chunk(stream, 0), chunk(stream, 2), chunk(stream, 3)),
		"the first chunk left out":              join(stream[:head], chunk(stream, 1), chunk(stream, 2), chunk(stream, 3)),
		"the last chunk doubled":                join(stream, chunk(stream, 3)),
		"the last chunk first":                  join(stream[:head], chunk(stream, 3)),
		"a chunk of another document":           join(stream[:head], chunk(stream, 0), chunk(second, 1), chunk(stream, 2), chunk(stream, 3)),
		"all chunks of another document":        join(stream[:head], second[head:]),
		"the header of another document":        join(second[:head], stream[head:]),
		"a byte more":                           join(stream, []byte{0}),
		"a tag more":                            join(stream, make([]byte, 16)),
		"a chunk more":                          join(stream, make([]byte, sealedChunk)),
		"two streams one after the other":       join(stream, second),
		"a whole last chunk, and a byte":        join(whole, []byte{0}),
		"an empty document and a byte":          join(empty, []byte{0}),
		"an empty document, twice its chunk":    join(empty, empty[head:]),
		"an empty chunk behind a document":      join(single, empty[head:]),
		"an empty document's chunk cut off":     empty[:head],
	} {
		t.Run(name, func(t *testing.T) {
			got, err := opened(t, letter, span{}, bad)
			if !errors.Is(err, ErrSealed) {
				t.Errorf("%d bytes opened: %v", len(got), err)
			}
			// What was given out before is a beginning of a document, in whole chunks that were verified.
			if !bytes.HasPrefix(plain, got) && !bytes.HasPrefix(other, got) && len(got) > chunkLen {
				t.Error("bytes were given out that are not the document's")
			}
			if len(got)%chunkLen != 0 && !bytes.Equal(got, plain) && !bytes.HasSuffix(bad, []byte{0}) {
				t.Errorf("a part of a chunk was given out: %d bytes", len(got))
			}
		})
	}
}

// TestStreamEachBit: each bit of a small stream matters, and nothing is given out before its chunk was verified.
func TestStreamEachBit(t *testing.T) {
	stream := sealed(t, letter, []byte("content"))
	for i := headerPrefix + headerLen; i < len(stream); i++ { // before it are the id and the length, which clearVault does not bind
		for bit := range 8 {
			stream[i] ^= 1 << bit
			if got, err := opened(t, letter, span{}, stream); !errors.Is(err, ErrSealed) || len(got) > 0 {
				t.Errorf("byte %d, bit %d: %q, %v", i, bit, got, err)
			}
			stream[i] ^= 1 << bit
		}
	}
	for i := range headerPrefix {
		stream[i] ^= 1
		if _, err := opened(t, letter, span{}, stream); !errors.Is(err, ErrSealed) {
			t.Errorf("byte %d: %v", i, err)
		}
		stream[i] ^= 1
	}
}

// TestStreamSubject: a stream opens for its own tenant, purpose and id only, also where the parts move between them.
func TestStreamSubject(t *testing.T) {
	stream := sealed(t, letter, []byte("content"))
	for _, s := range []subject{
		{}, {"clinic", "documents", "d2"}, {"clinic", "images", "d1"}, {"other", "documents", "d1"}, {"clini", "cdocuments", "d1"},
		{"clinic", "document", "sd1"}, {"clinic", "documentsd1", ""}, {"clinic", "documents", "D1"},
	} {
		if got, err := opened(t, s, span{}, stream); !errors.Is(err, ErrSealed) || len(got) > 0 {
			t.Errorf("%+v: %q, %v", s, got, err)
		}
	}
	if letter.label(labelItem) == letter.label(labelDocument) {
		t.Error("a value and a document key have one label")
	}
}

// TestStreamRanges: whole chunks open on their own, in their place, and only with the truth about the end.
func TestStreamRanges(t *testing.T) {
	plain := random(4*chunkLen + 9)
	stream := sealed(t, letter, plain)
	head := headerOf(stream)
	cut := func(from, to int) []byte {
		return append(bytes.Clone(stream[:head]), stream[head+from*sealedChunk:min(len(stream), head+to*sealedChunk)]...)
	}
	for _, c := range []struct {
		from, to int
		more     bool
	}{{0, 5, false}, {0, 1, true}, {0, 4, true}, {1, 3, true}, {3, 4, true}, {3, 5, false}, {4, 5, false}} {
		got, err := opened(t, letter, span{uint64(c.from), c.more}, cut(c.from, c.to))
		if err != nil || !bytes.Equal(got, plain[c.from*chunkLen:min(len(plain), c.to*chunkLen)]) {
			t.Errorf("%+v: %d bytes, %v", c, len(got), err)
		}
		for _, wrong := range []span{{uint64(c.from), !c.more}, {uint64(c.from + 1), c.more}} {
			if _, err := opened(t, letter, wrong, cut(c.from, c.to)); !errors.Is(err, ErrSealed) {
				t.Errorf("%+v as %+v: %v", c, wrong, err)
			}
		}
	}
	if _, err := opened(t, letter, span{2, true}, stream[:head]); !errors.Is(err, ErrSealed) {
		t.Errorf("no chunk at all: %v", err)
	}
	if _, err := opened(t, letter, span{2, true}, cut(2, 3)[:head+sealedChunk-1]); !errors.Is(err, ErrSealed) {
		t.Errorf("a part of a chunk: %v", err)
	}
}

// TestStreamBroken: an upload that breaks off leaves nothing that opens; a writer that fails ends the work.
func TestStreamBroken(t *testing.T) {
	for _, n := range []int{0, 1, chunkLen, 2*chunkLen + 1} {
		var b bytes.Buffer
		src := io.MultiReader(bytes.NewReader(random(n)), errReader{})
		if err := sealStream(t.Context(), &clearVault{}, letter, &b, src); !errors.Is(err, errSource) {
			t.Errorf("%d bytes: %v", n, err)
		}
		if got, err := opened(t, letter, span{}, b.Bytes()); !errors.Is(err, ErrSealed) {
			t.Errorf("%d bytes: what was written opens: %d bytes", n, len(got))
		}
	}
	full := errors.New("full")
	if err := sealStream(t.Context(), &clearVault{}, letter, errWriter{full}, strings.NewReader("x")); !errors.Is(err, full) {
		t.Errorf("sealing: %v", err)
	}
	if err := resealStream(t.Context(), &clearVault{}, letter, errWriter{full}, bytes.NewReader(sealed(t, letter, random(9*chunkLen)))); !errors.Is(err, full) {
		t.Errorf("resealing: %v", err)
	}
	for _, err := range []error{ErrUnavailable, ErrRefused} {
		if got := sealStream(t.Context(), &clearVault{err: err}, letter, io.Discard, strings.NewReader("x")); !errors.Is(got, err) {
			t.Errorf("sealing: %v", got)
		}
		if got := openStream(t.Context(), &clearVault{err: err}, letter, span{}, io.Discard, bytes.NewReader(sealed(t, letter, nil))); !errors.Is(got, err) {
			t.Errorf("opening: %v", got)
		}
	}
}

// TestStreamCutSource: a body that ends before its announced length, or before the last chunk of the chunked coding (RFC 9112
// sections 6.3 and 8), reads as io.ErrUnexpectedEOF. That is no end of a document, wherever it happens.
func TestStreamCutSource(t *testing.T) {
	cut := func(b []byte) io.Reader {
		return io.MultiReader(bytes.NewReader(b), iotest.ErrReader(fmt.Errorf("reading a body: %w", io.ErrUnexpectedEOF)))
	}
	plain := random(2*chunkLen + 1)
	stream := sealed(t, letter, plain)
	for _, n := range []int{0, 1, chunkLen, 2*chunkLen + 1} {
		var b bytes.Buffer
		if err := sealStream(t.Context(), &clearVault{}, letter, &b, cut(plain[:n])); !errors.Is(err, errSource) {
			t.Errorf("sealing %d bytes: %v", n, err)
		}
		if got, err := opened(t, letter, span{}, b.Bytes()); !errors.Is(err, ErrSealed) {
			t.Errorf("%d bytes: what was written opens: %d bytes", n, len(got))
		}
	}
	for name, part := range map[string]span{"all": {}, "some": {more: true}} {
		for _, n := range []int{3, headerOf(stream), headerOf(stream) + sealedChunk, len(stream)} {
			if err := openStream(t.Context(), &clearVault{}, letter, part, io.Discard, cut(stream[:n])); !errors.Is(err, errSource) {
				t.Errorf("opening %s, %d bytes: %v", name, n, err)
			}
		}
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

type errWriter struct{ error }

func (w errWriter) Write([]byte) (int, error) { return 0, w.error }

// TestStreamReseal: the content stays, nothing else does; a broken stream is not mended by it.
func TestStreamReseal(t *testing.T) {
	plain := random(2*chunkLen + 7)
	stream := sealed(t, letter, plain)
	var b bytes.Buffer
	if err := resealStream(t.Context(), &clearVault{id: 2}, letter, &b, bytes.NewReader(stream)); err != nil {
		t.Fatal(err)
	}
	if got, err := opened(t, letter, span{}, b.Bytes()); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if head := headerOf(stream); bytes.Equal(b.Bytes()[head:], stream[head:]) || bytes.Contains(b.Bytes(), stream[head-32:head]) {
		t.Error("the document key is the old one")
	}
	b.Reset()
	if err := resealStream(t.Context(), &clearVault{}, letter, &b, bytes.NewReader(stream[:len(stream)-1])); !errors.Is(err, ErrSealed) {
		t.Errorf("a cut stream: %v", err)
	}
	if _, err := opened(t, letter, span{}, b.Bytes()); err == nil {
		t.Error("a cut stream was made whole")
	}
	head := headerOf(stream)
	header, changed, err := resealHeader(t.Context(), &clearVault{id: 2}, letter, stream[:head])
	if err != nil || !changed || header[11] != 2 {
		t.Errorf("header: %x, %v, %v", header, changed, err)
	}
	if got, err := opened(t, letter, span{}, append(header, stream[head:]...)); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("with the new header: %v", err)
	}
	for _, bad := range [][]byte{nil, stream[:5], stream[:head-1], stream[:head+1], stream} {
		if _, _, err := resealHeader(t.Context(), &clearVault{}, letter, bad); !errors.Is(err, ErrSealed) {
			t.Errorf("%d bytes for a header: %v", len(bad), err)
		}
	}
}

// TestStreamMemory: a document of 1 GiB (32 MiB with -short) passes in constant memory.
func TestStreamMemory(t *testing.T) {
	size := int64(1 << 30)
	if testing.Short() {
		size = 32 << 20
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	pr, pw := io.Pipe()
	done := make(chan error, 1)
	go func() { // ends with the pipe
		err := sealStream(t.Context(), &clearVault{}, letter, pw, io.LimitReader(zeros{}, size))
		_ = pw.CloseWithError(err)
		done <- err
	}()
	var count counter
	if err := openStream(t.Context(), &clearVault{}, letter, span{}, &count, pr); err != nil || int64(count) != size {
		t.Errorf("%d bytes: %v", count, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 {
		t.Errorf("%d bytes were allocated in all for %d", used, size)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

// FuzzStream: no bytes open but those that were sealed; what comes out is a beginning of what went in.
func FuzzStream(f *testing.F) {
	fixed := &clearVault{}
	plain := bytes.Repeat([]byte("0123456789abcdef"), 3*chunkLen/16)
	var b bytes.Buffer
	if err := sealStream(f.Context(), fixed, letter, &b, bytes.NewReader(plain)); err != nil {
		f.Fatal(err)
	}
	stream := b.Bytes()
	f.Add(uint32(0), []byte{}, uint32(0), uint8(0))
	f.Fuzz(func(t *testing.T, at uint32, put []byte, drop uint32, mode uint8) {
		i := int(at) % (len(stream) + 1)
		j := min(i+int(drop)%(2*sealedChunk), len(stream))
		changed := append(append(bytes.Clone(stream[:i]), put...), stream[j:]...)
		if mode&1 != 0 {
			changed = put // whatever it is
		}
		part := span{uint64(mode >> 2), mode&2 != 0}
		got, err := opened(t, letter, part, changed)
		if err == nil && !bytes.Equal(changed, stream) && !idOnly(changed, stream) {
			t.Fatalf("%d changed bytes opened", len(changed))
		}
		if !bytes.HasPrefix(plain, got) {
			t.Fatalf("%d bytes came out that never went in", len(got))
		}
	})
}

// idOnly reports whether two streams differ in the key id alone, which the test's vault does not bind.
func idOnly(a, b []byte) bool {
	from, to := headerPrefix+1, headerPrefix+headerLen
	return len(a) == len(b) && bytes.Equal(a[:from], b[:from]) && bytes.Equal(a[to:], b[to:])
}
