package medicloud

import (
	"errors"
	"io"
	"mime/multipart"
	"net/http"

	"github.com/anteroom-proxy/anteroom/upstreams/synthetic"
)

// Bounds on whole requests: a file of MaxFile with what multipart or base64 and
// the other fields add.
const (
	maxForm = MaxFile + 64<<10
	maxJSON = MaxFile/3*4 + 64<<10
)

// routes registers the pages and the upload.
func (a *app) routes() {
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
	a.HandleLimit("POST /documents", maxForm, func(w http.ResponseWriter, r *http.Request) error {
		in, err := readUpload(r)
		if err != nil {
			return err
		}
		d, err := a.add(in)
		if err != nil {
			return err
		}
		return synthetic.Done(w, r, "/documents/"+d.ID+"?done=uploaded")
	})
}

// home lists the documents and takes new ones.
func (a *app) home(w http.ResponseWriter, r *http.Request) error {
	patient := r.URL.Query().Get("patient")
	return a.Render(w, r, synthetic.Page{Name: "list", Title: "Documents", Data: map[string]any{
		"List": a.list(patient), "Patient": patient, "Patients": synthetic.PatientsByName(), "Max": size(MaxFile)}})
}

// readUpload reads the upload form part by part. Nothing of it goes to the disk.
func readUpload(r *http.Request) (in upload, err error) {
	m, err := r.MultipartReader()
	if err != nil {
		return in, synthetic.Refuse(http.StatusUnsupportedMediaType, "Send the form as multipart/form-data.")
	}
	for seen := map[string]bool{}; ; {
		part, err := m.NextPart()
		if err == io.EOF {
			return in, nil
		}
		if err != nil {
			return in, unreadable(err)
		}
		if seen[part.FormName()] {
			return in, synthetic.Refuse(http.StatusBadRequest, "Send one document at a time.")
		}
		seen[part.FormName()] = true
		if err := readPart(part, &in); err != nil {
			return in, err
		}
	}
}

func readPart(part *multipart.Part, in *upload) error {
	limit := 4 << 10
	if part.FormName() == "file" {
		limit = MaxFile
	}
	content, err := io.ReadAll(io.LimitReader(part, int64(limit)+1))
	if err != nil {
		return unreadable(err)
	}
	if len(content) > limit {
		return tooLarge()
	}
	switch part.FormName() {
	case "file":
		in.Name, in.Content = part.FileName(), content
	case "patient":
		in.Patient = string(content)
	case "note":
		in.Note = string(content)
	default:
		return synthetic.Refuse(http.StatusBadRequest, "The form has a field that does not belong there.")
	}
	return nil
}

func unreadable(err error) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return tooLarge()
	}
	return synthetic.Refuse(http.StatusBadRequest, "The form could not be read to its end. Nothing was stored.")
}

// api registers the JSON API.
func (a *app) api() {
	a.Read("/api/{$}", func(*http.Request) (any, error) {
		return synthetic.Index{App: "medicloud",
			Reads:  []string{"/api/documents", "/api/documents/{id}", "/api/documents/{id}/file"},
			Writes: []synthetic.Write{{Path: "/api/documents", Example: upload{"p1001", "note.txt", "From outside", []byte("A short note.\n")}}}}, nil
	})
	a.Read("/api/documents", func(r *http.Request) (any, error) { return a.list(r.URL.Query().Get("patient")), nil })
	a.Read("/api/documents/{id}", func(r *http.Request) (any, error) { return a.find(r.PathValue("id")) })
	a.Handle("GET /api/documents/{id}/file", a.serve)
	synthetic.Create(a.Site, "/api/documents", maxJSON, func(_ *http.Request, in upload) (string, any, error) {
		d, err := a.add(in)
		return "/api/documents/" + d.ID, d, err
	})
}
