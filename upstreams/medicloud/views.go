package medicloud

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"os"

	"github.com/anteroom-proxy/anteroom/upstreams/synthetic"
)

// What multipart or base64 and the other fields add to a file.
const around = 64 << 10

// routes registers the pages and the upload.
func (a *App) routes() {
	a.Handle("GET /{$}", a.home)
	a.Handle("GET /documents", a.home)
	a.Handle("GET /documents/{id}", func(w http.ResponseWriter, r *http.Request) error {
		d, err := a.find(r.PathValue("id"))
		if err != nil {
			return err
		}
		p, _ := synthetic.FindPatient(d.Patient)
		return a.Render(w, r, synthetic.Page{Name: "document", Title: d.Name, Data: map[string]any{"Document": d, "Patient": p}})
	})
	a.Handle("GET /documents/{id}/file", a.serve)
	a.HandleLimit("POST /documents", a.maxFile+around, func(w http.ResponseWriter, r *http.Request) error {
		if _, err := a.records(); err != nil { // before anybody sends a gigabyte
			return err
		}
		in, d, err := a.readUpload(r)
		if err != nil {
			if d.ID != "" {
				_ = os.Remove(a.path(d.ID)) // sealed, and nobody has a record of it
			}
			return err
		}
		d, err = a.add(in, d)
		if err != nil {
			return err
		}
		return synthetic.Done(w, r, "/documents/"+d.ID+"?done=uploaded")
	})
}

// home lists the documents and takes new ones.
func (a *App) home(w http.ResponseWriter, r *http.Request) error {
	patient := r.URL.Query().Get("patient")
	list, err := a.list(patient)
	if err != nil {
		return err
	}
	return a.Render(w, r, synthetic.Page{Name: "list", Title: "Documents", Data: map[string]any{
		"List": list, "Patient": patient, "Patients": synthetic.PatientsByName(), "Max": size(a.maxFile)}})
}

// readUpload reads the upload form part by part, the file straight into its sealed
// form. On an error the document, if it has an id, may have a file.
func (a *App) readUpload(r *http.Request) (in upload, d Document, err error) {
	m, err := r.MultipartReader()
	if err != nil {
		return in, d, synthetic.Refuse(http.StatusUnsupportedMediaType, "Send the form as multipart/form-data.")
	}
	for seen := map[string]bool{}; ; {
		part, err := m.NextPart()
		if err == io.EOF {
			return in, d, nil
		}
		if err != nil {
			return in, d, a.unreadable(err)
		}
		if seen[part.FormName()] {
			return in, d, synthetic.Refuse(http.StatusBadRequest, "Send one document at a time.")
		}
		seen[part.FormName()] = true
		if err := a.readPart(r.Context(), part, &in, &d); err != nil {
			return in, d, err
		}
	}
}

func (a *App) readPart(ctx context.Context, part *multipart.Part, in *upload, d *Document) error {
	if part.FormName() == "file" {
		in.Name, d.ID = part.FileName(), newID()
		err := a.keep(ctx, d, part)
		var problem *synthetic.Problem
		if err != nil && !errors.As(err, &problem) {
			return a.unreadable(err)
		}
		return err
	}
	const limit = 4 << 10
	content, err := io.ReadAll(io.LimitReader(part, limit+1))
	if err != nil {
		return a.unreadable(err)
	}
	if len(content) > limit {
		return a.tooLarge()
	}
	switch part.FormName() {
	case "patient":
		in.Patient = string(content)
	case "note":
		in.Note = string(content)
	default:
		return synthetic.Refuse(http.StatusBadRequest, "The form has a field that does not belong there.")
	}
	return nil
}

func (a *App) unreadable(err error) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return a.tooLarge()
	}
	return synthetic.Refuse(http.StatusBadRequest, "The form could not be read to its end. Nothing was stored.")
}

// asJSON is an upload inside JSON. It is held in memory, so it has a bound of its own.
type asJSON struct {
	Patient string `json:"patient"`
	Name    string `json:"name"`
	Note    string `json:"note"`
	Content []byte `json:"content"` // base64
}

// api registers the JSON API.
func (a *App) api() {
	a.Read("/api/{$}", func(*http.Request) (any, error) {
		return synthetic.Index{App: "medicloud",
			Reads:  []string{"/api/documents", "/api/documents/{id}", "/api/documents/{id}/file"},
			Writes: []synthetic.Write{{Path: "/api/documents", Example: asJSON{"p1001", "note.txt", "From outside", []byte("A short note.\n")}}}}, nil
	})
	a.Read("/api/documents", func(r *http.Request) (any, error) { return a.list(r.URL.Query().Get("patient")) })
	a.Read("/api/documents/{id}", func(r *http.Request) (any, error) { return a.find(r.PathValue("id")) })
	a.Handle("GET /api/documents/{id}/file", a.serve)
	most := min(MaxJSON, a.maxFile)
	synthetic.Create(a.Site, "/api/documents", most/3*4+around, func(r *http.Request, in asJSON) (string, any, error) {
		var d Document
		if int64(len(in.Content)) > most {
			return "", nil, a.tooLarge()
		}
		if len(in.Content) > 0 {
			d.ID = newID()
			if err := a.keep(r.Context(), &d, bytes.NewReader(in.Content)); err != nil {
				return "", nil, err
			}
		}
		d, err := a.add(upload{in.Patient, in.Name, in.Note}, d)
		return "/api/documents/" + d.ID, d, err
	})
}
