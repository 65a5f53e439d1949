// Package medicloud is a sample application: documents and images that the
// doctors of an invented hospital share with outside specialists. They upload,
// list and download.
//
// [New] returns the app as an http.Handler. Its records are in medicloud.json in
// Config.Dir and the documents beside it in the folder files. Pages: /,
// /documents/{id} and the file itself at /documents/{id}/file. JSON: everything
// below /api/, which lists itself at /api/.
//
// What people upload is hostile until shown otherwise: a document lies under a
// name that the app made, never the sender's; the content type comes from the
// content and from a short list; and every file goes out as an attachment that
// the browser neither guesses at (nosniff) nor runs (sandbox). A download is
// checked against the digest of the upload.
//
// The app trusts whoever reaches it. It knows no roles and no sign-in, and it is
// there to be protected by something in front of it.
package medicloud

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/upstreams/synthetic"
)

//go:embed pages/*.html
var pages embed.FS

// MaxFile is the largest document that is taken, in bytes.
const MaxFile = 10 << 20

// Config is what the app needs to run.
type Config struct {
	Dir    string           // folder of the app's own; made when absent
	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: discard
}

// Document is what is known of one file.
type Document struct {
	ID       string    `json:"id"`
	Patient  string    `json:"patient"`
	Name     string    `json:"name"` // for people; the file has another one
	Type     string    `json:"type"`
	Size     int64     `json:"size"`
	SHA256   string    `json:"sha256"`
	Note     string    `json:"note,omitempty"`
	Uploaded time.Time `json:"uploaded"`
}

// Image says whether the pages can show the document.
func (d Document) Image() bool { return strings.HasPrefix(d.Type, "image/") }

type records struct {
	Documents []Document `json:"documents"`
}

type app struct {
	*synthetic.Site
	state *synthetic.State[records]
	files string // folder
	now   func() time.Time
	log   *slog.Logger
}

// New opens the state and returns the app. It fails when the state file is
// damaged.
func New(c Config) (http.Handler, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	sub, err := fs.Sub(pages, "pages")
	if err != nil {
		return nil, err
	}
	a := &app{now: c.Now, log: c.Logger, files: filepath.Join(c.Dir, "files")}
	a.state, err = synthetic.OpenState(c.Dir, "medicloud", func() (*records, error) { return a.first() })
	if err != nil {
		return nil, err
	}
	a.Site, err = synthetic.NewSite(synthetic.SiteConfig{
		Name: "Medicloud", Class: "medicloud", Tagline: "documents and images", Pages: sub, Logger: c.Logger,
		Funcs: map[string]any{"size": size}, Notices: map[string]string{"uploaded": "The document is uploaded."},
	})
	if err != nil {
		return nil, err
	}
	a.routes()
	a.api()
	return a, nil
}

// upload is what a person sends.
type upload struct {
	Patient string `json:"patient"`
	Name    string `json:"name"`
	Note    string `json:"note"`
	Content []byte `json:"content"` // base64 in JSON
}

// add keeps a document: first the file, then the record of it. A crash between
// the two leaves a file that nobody sees, never a record without its file.
func (a *app) add(in upload) (Document, error) {
	d := Document{Patient: in.Patient, Name: cleanName(in.Name), Uploaded: a.now().UTC().Truncate(time.Second)}
	_, err := synthetic.NeedPatient(in.Patient, http.StatusUnprocessableEntity)
	if err != nil {
		return d, err
	}
	if in.Note != "" {
		if d.Note, err = synthetic.Line("note", in.Note, 200); err != nil {
			return d, err
		}
	}
	switch {
	case len(in.Content) == 0:
		return d, synthetic.Refuse(http.StatusUnprocessableEntity, "Please choose a file that is not empty.")
	case len(in.Content) > MaxFile:
		return d, tooLarge()
	}
	var id [12]byte
	rand.Read(id[:])
	d.ID = "d" + hex.EncodeToString(id[:])
	if err := a.write(&d, in.Content); err != nil {
		return d, err
	}
	err = a.state.Change(func(r *records) error {
		r.Documents = append(r.Documents, d)
		return nil
	})
	if err != nil {
		os.Remove(a.path(d.ID))
	}
	return d, err
}

// write puts the content on the disk and notes what it is.
func (a *app) write(d *Document, content []byte) error {
	sum := sha256.Sum256(content)
	d.Type, d.Size, d.SHA256 = contentType(content), int64(len(content)), hex.EncodeToString(sum[:])
	if err := os.MkdirAll(a.files, 0o700); err != nil {
		return fmt.Errorf("storing a document: %w", err)
	}
	if err := synthetic.WriteFile(a.path(d.ID), content); err != nil {
		return fmt.Errorf("storing a document: %w", err)
	}
	return nil
}

// path is where a document lies. id always comes from a record, so it is one
// that this app made.
func (a *app) path(id string) string { return filepath.Join(a.files, id) }

func (a *app) find(id string) (Document, error) {
	for _, d := range a.state.View().Documents {
		if d.ID == id {
			return d, nil
		}
	}
	return Document{}, synthetic.Refuse(http.StatusNotFound, "There is no such document.")
}

// read returns the content of a document, whole and as it was uploaded.
func (a *app) read(d Document) ([]byte, error) {
	content, err := os.ReadFile(a.path(d.ID))
	sum := sha256.Sum256(content)
	if err == nil && hex.EncodeToString(sum[:]) != d.SHA256 {
		err = fmt.Errorf("the content is not what was uploaded")
	}
	if err != nil {
		a.log.Error("reading a document", "id", d.ID, "err", err)
		return nil, synthetic.Refuse(http.StatusInternalServerError, "The file of this document is damaged or missing. Please tell whoever looks after Medicloud; its number is %s.", d.ID)
	}
	return content, nil
}

// list returns the documents of one patient, or all, the newest first.
func (a *app) list(patient string) []Document {
	list := []Document{}
	for _, d := range slices.Backward(a.state.View().Documents) {
		if patient == "" || d.Patient == patient {
			list = append(list, d)
		}
	}
	slices.SortStableFunc(list, func(x, y Document) int { return y.Uploaded.Compare(x.Uploaded) })
	return list
}

// serve sends the file of a document.
func (a *app) serve(w http.ResponseWriter, r *http.Request) error {
	d, err := a.find(r.PathValue("id"))
	if err != nil {
		return err
	}
	content, err := a.read(d)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", d.Type)
	h.Set("Content-Disposition", disposition(d.Name))
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	h.Set("ETag", `"`+d.SHA256+`"`)
	http.ServeContent(w, r, "", d.Uploaded, bytes.NewReader(content))
	return nil
}

func tooLarge() error {
	return synthetic.Refuse(http.StatusRequestEntityTooLarge, "A document can have at most %s.", size(MaxFile))
}
