// Package medicloud is a sample application: documents and images that the
// doctors of an invented hospital share with outside specialists. They upload,
// list and download.
//
// [New] returns the app as an http.Handler; [App.Run] does what is to be done
// besides. Its records are in medicloud.sealed in Config.Dir and the documents
// beside it in the folder files. Pages: /, /documents/{id} and the file itself at
// /documents/{id}/file. JSON: everything below /api/, which lists itself at /api/.
//
// Nothing lies on the disk in the clear: records and documents are sealed by an
// encryption service on this host, each document under a key of its own, and
// opened when somebody asks for them, a few chunks at a time. A copied disk shows
// how many documents there are and how long they are, nothing else. Without the
// service there are no documents: every page says so (503) until it is back. What
// an older version left in the clear is sealed, read back and then removed; what
// is under a key that the service wants to be rid of is sealed anew.
//
// What people upload is hostile until shown otherwise: a document lies under a
// name that the app made, never the sender's; the content type comes from the
// content and from a short list; and every file goes out as an attachment that
// the browser neither guesses at (nosniff) nor runs (sandbox). A byte of a file
// goes out only after the chunk that it is in has been verified.
//
// The app trusts whoever reaches it. It knows no roles and no sign-in, and it is
// there to be protected by something in front of it.
package medicloud

import (
	"embed"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anteroom-proxy/anteroom/upstreams/synthetic"
)

//go:embed pages/*.html
var pages embed.FS

// MaxFile is the largest document that is taken, in bytes, unless Config says
// otherwise; one that comes inside JSON can have MaxJSON at most.
const (
	MaxFile = 1 << 30
	MaxJSON = 10 << 20
)

// Config is what the app needs to run.
type Config struct {
	Dir     string           // folder of the app's own; made when absent
	MaxFile int64            // largest document; 0: MaxFile
	Now     func() time.Time // nil: time.Now
	Logger  *slog.Logger     // nil: discard

	VaultURL  string // of the encryption service, like https://localhost:8444/envelope-service
	TokenFile string // with the service's credential
	CAFile    string // PEM of whoever signs the service's certificate; "": the system's
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

// App is the application. It is made by New.
type App struct {
	*synthetic.Site
	dir, files string
	maxFile    int64
	vault      *vault
	now        func() time.Time
	log        *slog.Logger

	mu    sync.Mutex // held while the state is opened
	state atomic.Pointer[synthetic.State[records]]
}

// New returns the app. It does not need the encryption service yet: the records
// are opened by the first request, or by Run.
func New(c Config) (*App, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.MaxFile == 0 {
		c.MaxFile = MaxFile
	}
	sub, err := fs.Sub(pages, "pages")
	if err != nil {
		return nil, err
	}
	a := &App{now: c.Now, log: c.Logger, dir: c.Dir, files: filepath.Join(c.Dir, "files"), maxFile: c.MaxFile}
	if a.vault, err = newVault(c); err != nil {
		return nil, err
	}
	if err := a.sweep(); err != nil {
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

// records returns the app's records. The first call opens them, and moves what
// lies in the clear; it fails while the encryption service is away.
func (a *App) records() (*synthetic.State[records], error) {
	if s := a.state.Load(); s != nil {
		return s, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.state.Load(); s != nil {
		return s, nil
	}
	s, err := a.open()
	if err != nil {
		if !errors.Is(err, errAway) && !errors.Is(err, errBroken) {
			a.log.Error("opening the records of Medicloud", "err", err)
		}
		return nil, a.vault.refuse(err, "records")
	}
	a.state.Store(s)
	return s, nil
}

func (a *App) find(id string) (Document, error) {
	state, err := a.records()
	if err != nil {
		return Document{}, err
	}
	for _, d := range state.View().Documents {
		if d.ID == id {
			return d, nil
		}
	}
	return Document{}, synthetic.Refuse(http.StatusNotFound, "There is no such document.")
}

// list returns the documents of one patient, or all, the newest first.
func (a *App) list(patient string) ([]Document, error) {
	list := []Document{}
	state, err := a.records()
	if err != nil {
		return nil, err
	}
	for _, d := range slices.Backward(state.View().Documents) {
		if patient == "" || d.Patient == patient {
			list = append(list, d)
		}
	}
	slices.SortStableFunc(list, func(x, y Document) int { return y.Uploaded.Compare(x.Uploaded) })
	return list, nil
}

// serve sends the file of a document, or the parts of it that were asked for.
func (a *App) serve(w http.ResponseWriter, r *http.Request) error {
	d, err := a.find(r.PathValue("id"))
	if err != nil {
		return err
	}
	if strings.Count(r.Header.Get("Range"), ",") >= maxRanges {
		r.Header.Del("Range")
	}
	content, err := openSealed(r.Context(), a.vault, a.path(d.ID), d.ID, d.Size)
	if err != nil {
		return a.vault.refuse(err, d.ID)
	}
	defer content.Close()
	if err := content.prime(begins(r.Header.Get("Range"), d.Size)); err != nil {
		return a.vault.refuse(err, d.ID)
	}
	h := w.Header()
	h.Set("Content-Type", d.Type)
	h.Set("Content-Disposition", disposition(d.Name))
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	h.Set("ETag", `"`+d.SHA256+`"`)
	http.ServeContent(w, r, "", d.Uploaded, content)
	if content.err != nil {
		a.log.Error("sending a document", "id", d.ID, "err", content.err)
		panic(http.ErrAbortHandler) // the answer has begun; the browser must not take a part for the whole
	}
	return nil
}

// maxRanges is how many parts of a document one request gets. One that asks for more gets the whole, as RFC 9110 section 14.2
// allows: each part has its chunks opened, and a short header can name a hundred thousand.
const maxRanges = 16

// begins is where the first range of a request begins, as far as that is said simply.
func begins(header string, size int64) int64 {
	text, ok := strings.CutPrefix(header, "bytes=")
	from, to, _ := strings.Cut(text, "-")
	if n, err := strconv.ParseInt(from, 10, 64); ok && err == nil && n < size {
		return n
	}
	if n, err := strconv.ParseInt(to, 10, 64); ok && err == nil && from == "" && n < size {
		return size - n
	}
	return 0
}

func (a *App) tooLarge() error {
	return synthetic.Refuse(http.StatusRequestEntityTooLarge, "A document can have at most %s.", size(a.maxFile))
}
