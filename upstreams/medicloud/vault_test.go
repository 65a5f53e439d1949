package medicloud

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// service is an encryption service in small: the same format, keys in memory, and the faults that a test wants.
type service struct {
	*httptest.Server
	tokenFile, caFile string
	token             string
	down              atomic.Bool
	asked             atomic.Int64 // bytes of streams that were sent to be opened

	mu      sync.Mutex
	primary byte            // id of the key that seals; each byte of the id is this
	gone    map[byte]bool   // keys that open nothing any more
	due     map[string]bool // keys to be left
}

var master = bytes.Repeat([]byte{9}, 32)

func newService(t testing.TB) *service {
	t.Helper()
	s := &service{token: strings.Repeat("t", 40), primary: 1, gone: map[byte]bool{}, due: map[string]bool{}}
	s.Server = httptest.NewUnstartedServer(s)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	dir := t.TempDir()
	s.tokenFile, s.caFile = filepath.Join(dir, "token"), filepath.Join(dir, "ca.pem")
	for path, data := range map[string][]byte{s.tokenFile: []byte(s.token + "\n"), s.caFile: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *service) config(dir string) Config {
	return Config{Dir: dir, VaultURL: s.URL + "/envelope-service", TokenFile: s.tokenFile, CAFile: s.caFile, MaxFile: 10 << 20}
}

func (s *service) rotate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.due[strings.Repeat(fmt.Sprintf("%02x", s.primary), 8)] = true
	s.primary++
}

func gcm(key []byte) cipher.AEAD {
	block, _ := aes.NewCipher(key)
	aead, _ := cipher.NewGCM(block)
	return aead
}

func (s *service) sealKey(label string, key []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	nonce := make([]byte, 12)
	_, _ = rand.Read(nonce)
	head := append([]byte{2}, bytes.Repeat([]byte{s.primary}, 8)...)
	return gcm(master).Seal(append(head, nonce...), nonce, key, []byte(label))
}

func (s *service) openKey(label string, sealed []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(sealed) < 21 || s.gone[sealed[1]] {
		return nil, io.ErrUnexpectedEOF
	}
	return gcm(master).Open(nil, sealed[9:21], sealed[21:], []byte(label))
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.down.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if r.Method != "POST" || r.Header.Get("Authorization") != "Bearer "+s.token {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	q := r.URL.Query()
	label := q.Get("purpose") + "|" + q.Get("id")
	switch strings.TrimPrefix(r.URL.Path, "/envelope-service/v1/") {
	case "keys":
		s.mu.Lock()
		defer s.mu.Unlock()
		list := []map[string]any{}
		for id := range s.due {
			list = append(list, map[string]any{"id": id, "state": "open", "reseal_due": true})
		}
		json.NewEncoder(w).Encode(map[string]any{"keys": list, "reseal_due": len(list) > 0})
	case "stream/seal":
		s.seal(w, label, r.Body)
	case "stream/open":
		first, _ := strconv.Atoi(q.Get("first"))
		s.open(w, label, first, q.Get("more") == "1", &counting{r.Body, &s.asked})
	case "stream/reseal":
		pr, pw := io.Pipe()
		go func() { // ends with the body
			defer func() { pw.CloseWithError(fmt.Errorf("%v", recover())) }()
			out := &pipeAnswer{Writer: pw}
			s.open(out, label, 0, false, r.Body)
			if out.status != 0 {
				panic("refused")
			}
			pw.Close()
		}()
		s.seal(w, label, pr)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

type counting struct {
	io.Reader
	n *atomic.Int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}

type pipeAnswer struct {
	io.Writer
	status int
}

func (*pipeAnswer) Header() http.Header { return http.Header{} }
func (p *pipeAnswer) WriteHeader(n int) { p.status = n }

func nonceOf(number int, last bool) []byte {
	nonce := make([]byte, 12)
	binary.BigEndian.PutUint64(nonce[3:], uint64(number))
	if last {
		nonce[11] = 1
	}
	return nonce
}

func (s *service) seal(w io.Writer, label string, src io.Reader) {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	sealed := s.sealKey(label, key)
	out := append(binary.BigEndian.AppendUint16([]byte(magic), uint16(len(sealed))), sealed...)
	in := bufio.NewReaderSize(src, chunkLen)
	for i := 0; ; i++ {
		chunk := make([]byte, chunkLen)
		n, err := io.ReadFull(in, chunk)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			panic(http.ErrAbortHandler)
		}
		_, err = in.Peek(1)
		if err != nil && err != io.EOF {
			panic(http.ErrAbortHandler)
		}
		out = gcm(key).Seal(out, nonceOf(i, err == io.EOF), chunk[:n], nil)
		w.Write(out)
		if out = nil; err == io.EOF {
			return
		}
	}
}

func (s *service) open(w http.ResponseWriter, label string, first int, more bool, src io.Reader) {
	in := bufio.NewReaderSize(src, chunkLen)
	head := make([]byte, prefixLen)
	io.ReadFull(in, head)
	sealed := make([]byte, binary.BigEndian.Uint16(head[8:]))
	io.ReadFull(in, sealed)
	key, err := s.openKey(label, sealed)
	if err != nil {
		w.WriteHeader(http.StatusUnprocessableEntity)
		return
	}
	for i := first; ; i++ {
		chunk := make([]byte, chunkLen+chunkTag)
		n, _ := io.ReadFull(in, chunk)
		_, end := in.Peek(1)
		plain, err := gcm(key).Open(nil, nonceOf(i, end != nil && !more), chunk[:n], nil)
		if err != nil && i == first {
			w.WriteHeader(http.StatusUnprocessableEntity)
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Write(plain)
		if end != nil {
			return
		}
	}
}

// on returns the app, with a service of its own that lives as long as the test.
func on(t testing.TB, s *service, dir string) *App {
	t.Helper()
	c := s.config(dir)
	c.Now = now
	a, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// everything is all bytes below a folder, names included.
func everything(t testing.TB, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		b.WriteString(path + "\n")
		if err == nil && !e.IsDir() {
			var content []byte
			content, err = os.ReadFile(path)
			b.Write(content)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestCopiedDisk (row 159): whoever has a copy of the disk has no document, no name, no patient, no note.
func TestCopiedDisk(t *testing.T) {
	dir, s := t.TempDir(), newService(t)
	h := on(t, s, dir)
	const secret = "the-finding-that-nobody-else-may-know"
	want(t, post(t, h, part{"patient", "", "p1004"}, part{"note", "", "note-" + secret}, part{"file", "name-" + secret + ".txt", strings.Repeat(secret+"\n", 10000)}), 303, "")
	body, _ := json.Marshal(asJSON{"p1001", "j.txt", "", []byte("json-" + secret)})
	want(t, send(h, "POST", "/api/documents", "application/json", bytes.NewReader(body)), 201, "")
	list := documents(t, h, "")
	disk := everything(t, dir)
	for _, word := range []string{secret, "Discharge letter", "discharge", "p1004", "p1001", "Diagnosis", "\x89PNG", "text/plain", list[0].SHA256, `"documents"`} {
		if bytes.Contains(disk, []byte(word)) {
			t.Errorf("%q stands on the disk", word)
		}
	}
	if got := get(on(t, s, dir), "/documents/"+list[0].ID+"/file"); got.Code != 200 || !strings.Contains(got.Body.String(), secret) {
		t.Errorf("after a restart: %d", got.Code)
	}
}

// TestRanges: a part of a big document is read without opening the whole, and is the right part.
func TestRanges(t *testing.T) {
	dir, s := t.TempDir(), newService(t)
	h := on(t, s, dir)
	content := make([]byte, 100*chunkLen+77)
	_, _ = rand.Read(content)
	w := post(t, h, part{"patient", "", "p1004"}, part{"file", "big.bin", string(content)})
	want(t, w, 303, "")
	path, _, _ := strings.Cut(w.Header().Get("Location"), "?")
	ask := func(header string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", path+"/file", nil)
		r.Header.Set("Range", header)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	n := len(content)
	for header, c := range map[string][2]int{
		"bytes=0-0": {0, 1}, "bytes=65535-65536": {65535, 65537}, "bytes=3000000-3000999": {3000000, 3001000},
		fmt.Sprintf("bytes=%d-", n-10): {n - 10, n}, "bytes=-77": {n - 77, n}, "bytes=0-": {0, n}, "bytes=65536-1048576": {65536, 1048577},
	} {
		s.asked.Store(0)
		w := ask(header)
		if w.Code != 206 || !bytes.Equal(w.Body.Bytes(), content[c[0]:c[1]]) || w.Header().Get("Content-Range") != fmt.Sprintf("bytes %d-%d/%d", c[0], c[1]-1, n) {
			t.Errorf("%s: %d, %d bytes, %s", header, w.Code, w.Body.Len(), w.Header().Get("Content-Range"))
		}
		if most := int64(4*(c[1]-c[0]) + 4*chunkLen); s.asked.Load() > most {
			t.Errorf("%s: %d bytes were opened for %d", header, s.asked.Load(), c[1]-c[0])
		}
	}
	if w := ask(fmt.Sprintf("bytes=%d-", n)); w.Code != 416 {
		t.Errorf("behind the end: %d", w.Code)
	}
	if w := ask("bytes=10-19,70000-70009"); w.Code != 206 || !bytes.Contains(w.Body.Bytes(), content[10:20]) || !bytes.Contains(w.Body.Bytes(), content[70000:70010]) {
		t.Errorf("two parts: %d", w.Code)
	}
	// One short request must not have the same chunks opened a thousand times over (RFC 9110 section 17.15).
	s.asked.Store(0)
	if w := ask("bytes=" + strings.TrimSuffix(strings.Repeat("0-0,6000000-6000000,", 500), ",")); w.Code == 206 && w.Body.Len() < n || s.asked.Load() > int64(2*n) {
		t.Errorf("a thousand parts: %d, %d bytes were opened", w.Code, s.asked.Load())
	}
}

// TestTamperedFile: what somebody changed on the disk is refused, or the answer breaks off; it never comes as whole.
func TestTamperedFile(t *testing.T) {
	dir, s := t.TempDir(), newService(t)
	h := on(t, s, dir)
	content := strings.Repeat("0123456789abcdef", 30*chunkLen/16)
	id := func(name string) string {
		w := post(t, h, part{"patient", "", "p1004"}, part{"file", name, content})
		path, _, _ := strings.Cut(w.Header().Get("Location"), "?")
		return strings.TrimPrefix(path, "/documents/")
	}
	one, two := id("one.txt"), id("two.txt")
	file := filepath.Join(dir, "files", one+".sealed")
	good, _ := os.ReadFile(file)
	other, _ := os.ReadFile(filepath.Join(dir, "files", two+".sealed"))
	head := len(good) - len(content) - 30*chunkTag
	flip := func(at int) []byte { b := bytes.Clone(good); b[at] ^= 1; return b }
	for name, c := range map[string]struct {
		file  []byte
		whole bool // refused before the answer begins
	}{
		"another document":      {other, true},
		"its chunks":            {append(bytes.Clone(good[:head]), other[head:]...), true},
		"cut at a chunk":        {good[:len(good)-chunkLen-chunkTag], true},
		"cut":                   {good[:len(good)-1], true},
		"longer":                {append(bytes.Clone(good), 0), true},
		"in the clear":          {[]byte(content), true},
		"empty":                 {nil, true},
		"the key's id":          {flip(11), true},
		"the sealed key":        {flip(head - 1), true},
		"the first chunk":       {flip(head), true},
		"a chunk in the middle": {flip(head + 20*(chunkLen+chunkTag)), false},
		"the last byte":         {flip(len(good) - 1), false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(file, c.file, 0o600); err != nil {
				t.Fatal(err)
			}
			if name == "the key's id" {
				s.gone[good[11]^1] = true
			}
			broken := false
			var w *httptest.ResponseRecorder
			func() {
				defer func() { broken = recover() == http.ErrAbortHandler }()
				w = httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequest("GET", "/documents/"+one+"/file", nil))
			}()
			if c.whole && (w.Code != 500 || !strings.Contains(w.Body.String(), "damaged or missing")) || !c.whole && !broken {
				t.Errorf("%d, %d bytes, broken off: %v", w.Code, w.Body.Len(), broken)
			}
			if w.Code == 200 && !strings.HasPrefix(content, w.Body.String()) {
				t.Error("bytes that are not the document's")
			}
		})
	}
}

// TestServiceDown: without the service there are no documents, a page says so, nothing is stored and nothing lies in the clear.
func TestServiceDown(t *testing.T) {
	dir, s := t.TempDir(), newService(t)
	s.down.Store(true)
	h := on(t, s, dir)
	for _, path := range []string{"/", "/documents/d7001", "/documents/d7001/file"} {
		want(t, get(h, path), 503, "cannot be opened at the moment")
	}
	want(t, get(h, "/api/documents"), 503, `"error"`)
	want(t, post(t, h, part{"patient", "", "p1001"}, part{"file", "a.txt", "secret-content"}), 503, "at the moment")
	if names, _ := os.ReadDir(filepath.Join(dir, "files")); len(names) != 0 {
		t.Errorf("files: %v", names)
	}
	s.down.Store(false)
	want(t, get(h, "/documents/d7001/file"), 200, "Discharge letter")
	before := stored(t, dir)
	s.down.Store(true)
	want(t, get(h, "/documents/d7001/file"), 503, "at the moment")
	want(t, get(h, "/"), 200, "Discharge letter") // what was opened stays open until the app ends
	want(t, post(t, h, part{"patient", "", "p1001"}, part{"file", "a.txt", "secret-content"}), 503, "at the moment")
	if after := stored(t, dir); len(after) != len(before) || bytes.Contains(everything(t, dir), []byte("secret-content")) {
		t.Errorf("an upload that failed left something: %v", after)
	}
	s.down.Store(false)
	s.token += "x"
	want(t, get(h, "/documents/d7001/file"), 503, "at the moment")
}
