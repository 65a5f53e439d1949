package medicloud

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// TestMigration: what an older version left in the clear is sealed, compared and removed; also after a crash in between.
func TestMigration(t *testing.T) {
	dir, s := t.TempDir(), newService(t)
	files := filepath.Join(dir, "files")
	if err := os.MkdirAll(files, 0o700); err != nil {
		t.Fatal(err)
	}
	letter, damaged, orphan := "An old letter in the clear", "damaged content", "an orphan in the clear"
	sum := hexSum
	old := fmt.Sprintf(`{"format":"medicloud/1","data":{"documents":[
 {"id":"d1","patient":"p1001","name":"old.txt","type":"text/plain; charset=utf-8","size":%d,"sha256":%q,"uploaded":"2030-01-01T00:00:00Z"},
 {"id":"d2","patient":"p1001","name":"bad.txt","type":"text/plain; charset=utf-8","size":3,"sha256":%q,"uploaded":"2030-01-01T00:00:00Z"}]}}`, len(letter), sum(letter), sum("was"))
	for name, text := range map[string]string{"medicloud.json": old, "medicloud.json.tmp": "piece in the clear", "files/d1": letter, "files/d2": damaged, "files/dabc": orphan, "files/d9.tmp": "piece of a file"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.down.Store(true)
	want(t, get(on(t, s, dir), "/"), 503, "at the moment")
	if b, _ := os.ReadFile(filepath.Join(files, "d1")); string(b) != letter {
		t.Error("the clear file went before there was a sealed one")
	}
	s.down.Store(false)
	h := on(t, s, dir)
	want(t, get(h, "/documents/d1/file"), 200, letter)
	want(t, get(h, "/documents/d2/file"), 500, "damaged or missing")
	disk := everything(t, dir)
	for _, word := range []string{letter, orphan, "piece", "old.txt", "p1001"} {
		if bytes.Contains(disk, []byte(word)) {
			t.Errorf("%q still stands on the disk", word)
		}
	}
	if _, err := os.Stat(filepath.Join(files, "dabc.sealed")); err != nil {
		t.Error("a file without a record was lost")
	}
	if b, _ := os.ReadFile(filepath.Join(files, "d2")); string(b) != damaged {
		t.Error("a file that is not what the record says was touched")
	}
	// A crash after the sealed file and before the removal of the clear one.
	if err := os.WriteFile(filepath.Join(files, "d1"), []byte(letter), 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, get(on(t, s, dir), "/documents/d1/file"), 200, letter)
	if _, err := os.Stat(filepath.Join(files, "d1")); err == nil {
		t.Error("the clear file is still there")
	}
	// The old records come back from somewhere: two truths are no truth.
	if err := os.WriteFile(filepath.Join(dir, "medicloud.json"), []byte(strings.Replace(old, "old.txt", "new.txt", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, get(on(t, s, dir), "/"), 500, "")
}

// TestReseal: what is under a key that is to be left is sealed anew, and the old key is not needed any more.
func TestReseal(t *testing.T) {
	dir, s := t.TempDir(), newService(t)
	h := on(t, s, dir)
	content := strings.Repeat("x", 3*chunkLen)
	want(t, post(t, h, part{"patient", "", "p1004"}, part{"file", "x.txt", content}), 303, "")
	list := documents(t, h, "")
	if n, err := h.Reseal(t.Context()); n != 0 || err != nil {
		t.Errorf("nothing is due: %d, %v", n, err)
	}
	s.rotate()
	bad := filepath.Join(dir, "files", "d7001.sealed")
	kept, _ := os.ReadFile(bad)
	changed := bytes.Clone(kept)
	changed[len(changed)-1] ^= 1
	if err := os.WriteFile(bad, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := h.Reseal(t.Context()); n != len(list) || err == nil || !strings.Contains(err.Error(), "d7001") {
		t.Errorf("%d of %d files, and one that is damaged: %v", n, len(list)+1, err)
	}
	if b, _ := os.ReadFile(bad); !bytes.Equal(b, changed) {
		t.Error("the damaged file was replaced")
	}
	if err := os.WriteFile(bad, kept, 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := h.Reseal(t.Context()); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	s.gone[1] = true
	h = on(t, s, dir)
	for _, d := range list {
		want(t, get(h, "/documents/"+d.ID+"/file"), 200, "")
	}
	if n, err := h.Reseal(t.Context()); n != 0 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
}

// TestBrokenUpload: an upload that ends early leaves nothing, whatever it was.
func TestBrokenUpload(t *testing.T) {
	dir, s := t.TempDir(), newService(t)
	h := on(t, s, dir)
	get(h, "/")
	before := len(stored(t, dir))
	whole := "--x\r\nContent-Disposition: form-data; name=\"patient\"\r\n\r\np1001\r\n--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n" + strings.Repeat("y", 200000)
	for _, n := range []int{150, 1000, 100000, len(whole)} {
		want(t, send(h, "POST", "/documents", "multipart/form-data; boundary=x", strings.NewReader(whole[:n])), 400, "Nothing was stored")
	}
	if after := stored(t, dir); len(after) != before {
		t.Errorf("%d files, before %d", len(after), before)
	}
}

func hexSum(text string) string {
	m := &measure{src: strings.NewReader(text), most: 1 << 30, sum: sha256.New()}
	_, _ = io.Copy(io.Discard, m)
	return hex.EncodeToString(m.sum.Sum(nil))
}

// TestShortAnswer: the service answers 200, and less than the whole. Nothing is kept of it, and no document or record is lost.
func TestShortAnswer(t *testing.T) {
	dir, s := t.TempDir(), newService(t)
	var short atomic.Bool
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !short.Load() || !strings.HasSuffix(r.URL.Path, "/stream/seal") {
			s.ServeHTTP(w, r)
			return
		}
		answer := httptest.NewRecorder()
		s.ServeHTTP(answer, r)
		_, _ = w.Write(answer.Body.Bytes()[:answer.Body.Len()-5])
	})
	h := on(t, s, dir)
	before := len(documents(t, h, ""))
	records, err := os.ReadFile(filepath.Join(dir, "medicloud.sealed"))
	if err != nil {
		t.Fatal(err)
	}
	short.Store(true)
	want(t, post(t, h, part{"patient", "", "p1004"}, part{"file", "x.txt", strings.Repeat("x", 3*chunkLen)}), 503, "Nothing is lost")
	if _, err := h.vault.Encode([]byte("records")); !errors.Is(err, errBroken) {
		t.Errorf("records: %v", err)
	}
	if after := documents(t, h, ""); len(after) != before || len(stored(t, dir)) != before {
		t.Errorf("%d documents in %d files, before %d", len(after), len(stored(t, dir)), before)
	}
	if now, err := os.ReadFile(filepath.Join(dir, "medicloud.sealed")); err != nil || !bytes.Equal(now, records) {
		t.Errorf("the records were replaced: %v", err)
	}
}

// TestResealBesideDamage: many documents that are lost do not keep the others under a key that is to be left.
func TestResealBesideDamage(t *testing.T) {
	dir, s := t.TempDir(), newService(t)
	h := on(t, s, dir)
	list := documents(t, h, "")
	if len(list) < 14 {
		t.Fatalf("only %d documents", len(list))
	}
	lost := map[string]bool{}
	for _, d := range list[:6] {
		lost[d.ID] = true
	}
	for _, d := range list[len(list)-6:] {
		lost[d.ID] = true
	}
	for id := range lost {
		if err := os.Remove(filepath.Join(dir, "files", id+".sealed")); err != nil {
			t.Fatal(err)
		}
	}
	s.rotate()
	if n, err := h.Reseal(t.Context()); n != len(list)+1-len(lost) || err == nil {
		t.Errorf("%d of %d files were sealed anew: %v", n, len(list)+1-len(lost), err)
	}
}
