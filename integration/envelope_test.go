package integration

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const envelopeToken = "integration-envelope-token-0123456789"

// envelopeConfig is a site that has nothing but the service.
const envelopeConfig = `{` + globals + `
}

localhost:$PORT {
	tls $CERT $KEY
	envelope_service {
		token_file $DIR/envelope.token
		tenant clinic
	}
}
`

func newEnvelope(t testing.TB) *rig {
	t.Helper()
	r := prepare(t, "")
	write(t, filepath.Join(r.dir, "envelope.token"), envelopeToken+"\n")
	r.configure(t, envelopeConfig)
	r.run(t)
	return r
}

func (r *rig) envelopeURL(path string) string {
	return fmt.Sprintf("https://localhost:%d/envelope-service/v1/%s", r.port, path)
}

// envelope asks with JSON, as a right caller does.
func (r *rig) envelope(t testing.TB, path string, in any, more ...string) (status, body string) {
	t.Helper()
	args := append([]string{"-H", "Authorization: Bearer " + envelopeToken, "-H", "Content-Type: application/json", "--data-binary", mustJSON(in)}, more...)
	return r.curl(t, append(args, r.envelopeURL(path))...)
}

func batch(fields ...string) any {
	one := map[string]string{}
	for i := 0; i+1 < len(fields); i += 2 {
		one[fields[i]] = fields[i+1]
	}
	return map[string]any{"items": []any{one}}
}

// TestEnvelopeService: what an application on the same host gets; what it sealed survives a kill -9.
func TestEnvelopeService(t *testing.T) {
	const secret = "a finding that nobody else may know"
	r := newEnvelope(t)
	plain := base64.StdEncoding.EncodeToString([]byte(secret))
	var sealed struct {
		Items []struct{ Sealed, Plaintext string }
	}
	status, body := r.envelope(t, "seal", batch("purpose", "notes", "id", "p1001", "plaintext", plain))
	if err := json.Unmarshal([]byte(body), &sealed); err != nil || status != "200" || len(sealed.Items) != 1 {
		t.Fatalf("seal: %s %s", status, body)
	}
	value := sealed.Items[0].Sealed
	r.proc.kill()
	r.run(t)
	if status, body := r.envelope(t, "open", batch("purpose", "notes", "id", "p1001", "sealed", value)); status != "200" || !strings.Contains(body, `"plaintext":"`+plain+`"`) {
		t.Errorf("open after a kill: %s %s", status, body)
	}
	for _, other := range [][]string{{"notes", "p1002"}, {"letters", "p1001"}} {
		if status, body := r.envelope(t, "open", batch("purpose", other[0], "id", other[1], "sealed", value)); status != "200" || strings.Contains(body, plain) || !strings.Contains(body, "problem:sealed") {
			t.Errorf("open as %v: %s %s", other, status, body)
		}
	}
	status, body = r.envelope(t, "keys", map[string]any{})
	if status != "200" || !strings.Contains(body, `"state":"primary"`) || !strings.Contains(body, `"reseal_due":false`) {
		t.Errorf("keys: %s %s", status, body)
	}
	status, body = r.envelope(t, "census", map[string]any{"sealed": []string{value}})
	if status != "200" || !strings.Contains(body, `"foreign":0`) || !strings.Contains(body, `"sealed":1`) {
		t.Errorf("census: %s %s", status, body)
	}
	bearer, asJSON, keys := "Authorization: Bearer "+envelopeToken, "Content-Type: application/json", r.envelopeURL("keys")
	for id, test := range map[string]struct {
		want string
		args []string
	}{
		"no credential":    {"401", []string{"-H", asJSON, "-d", "{}", keys}},
		"wrong credential": {"401", []string{"-H", bearer + "x", "-H", asJSON, "-d", "{}", keys}},
		"a form":           {"415", []string{"-H", bearer, "-d", "{}", keys}},
		"any other path":   {"404", []string{fmt.Sprintf("https://localhost:%d/", r.port)}},
		"near miss":        {"404", []string{fmt.Sprintf("https://localhost:%d/envelope-servicex", r.port)}},
		"Via":              {"404", []string{"-H", bearer, "-H", asJSON, "-H", "Via: 1.1 proxy", "-d", "{}", keys}},
		"X-Forwarded-For":  {"404", []string{"-H", bearer, "-H", asJSON, "-H", "X-Forwarded-For: 127.0.0.1", "-d", "{}", keys}},
		"Origin":           {"404", []string{"-H", bearer, "-H", asJSON, "-H", "Origin: https://localhost", "-d", "{}", keys}},
		"from 127.0.0.6":   {"404", []string{"--interface", "127.0.0.6", "-H", bearer, "-H", asJSON, "-d", "{}", keys}},
	} {
		if status, body := r.curl(t, test.args...); status != test.want {
			t.Errorf("%s: %s, want %s: %s", id, status, test.want, body)
		}
	}
	for _, word := range []string{secret, plain, envelopeToken, "p1001"} {
		if where := r.grep(t, word, "envelope.token", "Caddyfile"); where != "" {
			t.Errorf("%q stands in %s", word, where)
		}
	}
}

// streamClient is an HTTP client of the service that may take its time.
func (r *rig) streamClient(t testing.TB) *http.Client {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca().pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (r *rig) stream(client *http.Client, op, more string, body io.Reader) (*http.Response, error) {
	query := url.Values{"purpose": {"images"}, "id": {"i1"}}.Encode() + more
	req, err := http.NewRequest("POST", r.envelopeURL("stream/"+op+"?"+query), body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+envelopeToken)
	req.Header.Set("Content-Type", "application/octet-stream")
	return client.Do(req)
}

// toFile asks for a stream and keeps the answer; an answer that ends early is an error.
func (r *rig) toFile(t testing.TB, op, more, path string, body io.Reader) error {
	t.Helper()
	res, err := r.stream(r.streamClient(t), op, more, body)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != 200 {
		text, _ := io.ReadAll(res.Body)
		return fmt.Errorf("%s: %s", res.Status, text)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = io.Copy(f, res.Body)
	return err
}

// TestEnvelopeStream: a document of 200 MB is sealed and opened in constant memory, parts of it are read alone, and what is
// changed at its end is an error in the client.
func TestEnvelopeStream(t *testing.T) {
	size := int64(200 << 20)
	if testing.Short() {
		size = 20 << 20
	}
	r := newEnvelope(t)
	dir := t.TempDir()
	original, sealed, back := filepath.Join(dir, "original"), filepath.Join(dir, "sealed"), filepath.Join(dir, "back")
	block := make([]byte, 1<<20)
	_, _ = rand.Read(block)
	f, err := os.Create(original)
	if err != nil {
		t.Fatal(err)
	}
	for i := int64(0); i < size; i += int64(len(block)) {
		copy(block, fmt.Sprintf("block %d", i))
		if _, err := f.Write(block); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	open := func(path string) *os.File {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	before := r.memory(t)
	// The first with curl, which reads while it writes, over HTTP/1.1; the second over HTTP/2.
	if status, body := r.curl(t, "-m", "120", "-X", "POST", "-T", original, "-H", "Expect:", "-o", sealed, "-H", "Authorization: Bearer "+envelopeToken, "-H", "Content-Type: application/octet-stream",
		r.envelopeURL("stream/seal?purpose=images&id=i1")); status != "200" {
		t.Fatalf("seal: %s %s", status, body)
	}
	if err := r.toFile(t, "open", "", back, open(sealed)); err != nil {
		t.Fatal(err)
	}
	if same, err := sameFiles(original, back); err != nil || !same {
		t.Errorf("the document does not come back: %v", err)
	}
	if grown := r.memory(t) - before; grown > 64<<20 {
		t.Errorf("the process grew by %d MiB", grown>>20)
	}
	info, _ := os.Stat(sealed)
	header := info.Size() - size - 16*(size/65536)
	part := func(from, to int64) io.Reader {
		return io.MultiReader(io.NewSectionReader(open(sealed), 0, header), io.NewSectionReader(open(sealed), header+from*65552, (to-from)*65552))
	}
	want := make([]byte, 3*65536)
	if _, err := open(original).ReadAt(want, 100*65536); err != nil {
		t.Fatal(err)
	}
	if err := r.toFile(t, "open", "&first=100&more=1", back, part(100, 103)); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(back); !bytes.Equal(got, want) {
		t.Errorf("chunks 100 to 102: %d bytes", len(got))
	}
	if err := r.toFile(t, "open", "&first=101&more=1", back, part(100, 103)); err == nil {
		t.Error("chunks open in another place")
	}
	if err := r.toFile(t, "open", "&first=100", back, part(100, 103)); err == nil {
		t.Error("chunks from the middle pass for the end")
	}
	if err := r.toFile(t, "open", "", back, io.NewSectionReader(open(sealed), 0, info.Size()-65552)); err == nil {
		t.Error("a cut document opens")
	}
	got, _ := os.Stat(back)
	t.Logf("of the cut document %d of %d bytes came before the connection broke off", got.Size(), size)
	if status, _ := r.curl(t, "--data-binary", "clear text", "-o", "/dev/null", "-H", "Authorization: Bearer "+envelopeToken, "-H", "Content-Type: application/octet-stream",
		r.envelopeURL("stream/open?purpose=images&id=i1")); status != "422" {
		t.Errorf("clear text to be opened: %s", status)
	}
}

func sameFiles(a, b string) (bool, error) {
	x, err := os.Open(a)
	if err != nil {
		return false, err
	}
	defer x.Close()
	y, err := os.Open(b)
	if err != nil {
		return false, err
	}
	defer y.Close()
	p, q := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		n, err1 := io.ReadFull(x, p)
		m, err2 := io.ReadFull(y, q)
		if !bytes.Equal(p[:n], q[:m]) {
			return false, nil
		}
		if err1 != nil || err2 != nil {
			return (err1 == io.EOF || err1 == io.ErrUnexpectedEOF) && err1 == err2, nil
		}
	}
}

// TestEnvelopeKilled: a kill -9 in the middle of an upload is an error in the client, and what came until then does not open.
func TestEnvelopeKilled(t *testing.T) {
	r := newEnvelope(t)
	half := filepath.Join(t.TempDir(), "half")
	pr, pw := io.Pipe()
	proc := r.proc
	go func() { // ends with the pipe
		for i := 0; ; i++ {
			if i == 100 {
				proc.kill()
			}
			if _, err := pw.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}()
	err := r.toFile(t, "seal", "", half, pr)
	_ = pr.Close()
	if err == nil {
		t.Fatal("the client saw a clean end")
	}
	r.run(t)
	f, err := os.Open(half)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, _ := f.Stat()
	if err := r.toFile(t, "open", "", filepath.Join(t.TempDir(), "back"), f); err == nil {
		t.Errorf("%d bytes of half a document open", info.Size())
	}
}

// TestMedicloudSealed: the demo's Medicloud keeps nothing in the clear (row 159), gives parts of documents, survives a
// kill -9 in the middle of an upload without half a document, and finds its documents again.
func TestMedicloudSealed(t *testing.T) {
	const secret = "the-finding-of-the-integration-test"
	d := startDemo(t)
	host := "medicloud.localhost"
	b := newBrowser(t, d.ca)
	signIn := func() {
		t.Helper()
		if p := b.signInDemo(t, d.url(host, "/"), "doctor"); p.Status != http.StatusOK || !strings.Contains(p.Body, "discharge-letter") {
			t.Fatalf("medicloud: %d\n%s", p.Status, p.Body)
		}
	}
	signIn()
	p := b.do(t, call(t, "POST", d.url(host, "/api/documents"), mustJSON(map[string]any{
		"patient": "p1001", "name": secret + ".txt", "note": secret, "content": []byte(strings.Repeat(secret+"\n", 5000)),
	})))
	var made struct{ ID string }
	if err := json.Unmarshal([]byte(p.Body), &made); err != nil || p.Status != http.StatusCreated {
		t.Fatalf("upload: %d %s", p.Status, p.Body)
	}
	req := call(t, "GET", d.url(host, "/documents/"+made.ID+"/file"), "")
	req.Header.Set("Range", "bytes=70000-70099")
	text := strings.Repeat(secret+"\n", 5000)
	if p := b.do(t, req); p.Status != http.StatusPartialContent || p.Body != text[70000:70100] {
		t.Errorf("a part: %d %q", p.Status, p.Body)
	}
	clearWords := func() {
		t.Helper()
		err := filepath.WalkDir(filepath.Join(d.dir, "apps", "medicloud"), func(path string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			for _, word := range []string{secret, "Discharge letter", "discharge", "p1001", "\x89PNG", "half of an upload"} {
				if bytes.Contains(content, []byte(word)) || strings.Contains(path, word) {
					t.Errorf("%q stands in %s", word, path)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	clearWords()

	pr, pw := io.Pipe()
	form := multipart.NewWriter(pw)
	proc := d.proc
	go func() { // ends with the pipe
		_ = form.WriteField("patient", "p1001")
		part, err := form.CreateFormFile("file", "half.txt")
		if err != nil {
			return
		}
		for i := 0; ; i++ {
			if i == 300 {
				time.Sleep(200 * time.Millisecond) // let what was sent come to the disk
				proc.kill()
			}
			if _, err := part.Write(bytes.Repeat([]byte("half of an upload\n"), 1000)); err != nil {
				return
			}
		}
	}()
	req = call(t, "POST", d.url(host, "/documents"), "")
	req.Body, req.ContentLength = pr, -1
	req.Header.Set("Content-Type", form.FormDataContentType())
	if res, err := b.client.Do(req); err == nil {
		_ = res.Body.Close()
		t.Errorf("the upload ended well: %s", res.Status)
	}
	_ = pr.Close()
	clearWords() // what a killed process leaves is sealed
	d.run(t)
	signIn()
	clearWords()
	if p := b.do(t, call(t, "GET", d.url(host, "/documents/"+made.ID+"/file"), "")); p.Status != http.StatusOK || p.Body != text {
		t.Errorf("after the kill: %d, %d bytes", p.Status, len(p.Body))
	}
	if pieces, _ := filepath.Glob(filepath.Join(d.dir, "apps", "medicloud", "files", "*.tmp")); len(pieces) > 0 {
		t.Errorf("pieces are left: %v", pieces)
	}
	if p := b.do(t, call(t, "GET", d.url(host, "/api/documents"), "")); strings.Contains(p.Body, "half.txt") {
		t.Error("half a document is in the list")
	}
}
