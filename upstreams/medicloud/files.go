package medicloud

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"math/rand/v2"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/anteroom-proxy/anteroom/upstreams/synthetic"
)

// maxName bounds the name of a document, in characters.
const maxName = 100

// cleanName makes of a sender's file name one that is fit to be shown and to be
// saved by others: its last element, without control and invisible characters
// (which can turn "exe.png" around), without what file systems give a meaning,
// and neither hidden nor too long.
func cleanName(name string) string {
	name = strings.ToValidUTF8(name, "_")
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	name = strings.Map(func(c rune) rune {
		switch {
		case unicode.IsControl(c), unicode.In(c, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co):
			return -1
		case strings.ContainsRune(`<>:"|?*`, c):
			return '_'
		}
		return c
	}, name)
	name = strings.TrimFunc(name, func(c rune) bool { return c == '.' || unicode.IsSpace(c) })
	if utf8.RuneCountInString(name) > maxName {
		ext := path.Ext(name)
		if utf8.RuneCountInString(ext) > 10 {
			ext = ""
		}
		name = string([]rune(name)[:maxName-utf8.RuneCountInString(ext)]) + ext
	}
	if name == "" {
		return "document"
	}
	return name
}

// disposition is the value of Content-Disposition: always an attachment, with
// the name in a form that no character of it can end (RFC 6266).
func disposition(name string) string {
	if v := mime.FormatMediaType("attachment", map[string]string{"filename": name}); v != "" {
		return v
	}
	return "attachment"
}

// contentType judges by the first bytes of the content, never by name or by what
// the sender says; text says whether all of it is UTF-8. What a browser could run,
// HTML or SVG for example, has no type here.
func contentType(head []byte, text bool) string {
	if len(head) >= 132 && string(head[128:132]) == "DICM" {
		return "application/dicom"
	}
	switch t := http.DetectContentType(head); t {
	case "image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf":
		return t
	case "text/plain; charset=utf-8":
		if text {
			return t
		}
	}
	return "application/octet-stream"
}

// size shows a number of bytes as people read it.
func size(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d bytes", n)
	case n < 1<<20:
		return fmt.Sprintf("%d KiB", (n+512)>>10)
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

// first makes the documents of a new installation: a letter for every second
// patient and an image for every sixth.
func (a *App) first(ctx context.Context) (*records, error) {
	r := &records{}
	rnd := synthetic.Rand("medicloud")
	today := a.now().UTC().Truncate(24 * time.Hour)
	keep := func(p synthetic.Patient, name, note string, content []byte) error {
		at := today.AddDate(0, 0, -1-rnd.IntN(90)).Add(time.Duration(8*60+rnd.IntN(500)) * time.Minute)
		d := Document{ID: fmt.Sprintf("d%d", 7001+len(r.Documents)), Patient: p.ID, Name: name, Note: note, Uploaded: at}
		if err := a.keep(ctx, &d, bytes.NewReader(content)); err != nil {
			return err
		}
		r.Documents = append(r.Documents, d)
		return nil
	}
	for i, p := range synthetic.Patients() {
		if i%2 == 0 {
			d := synthetic.Pick(rnd, synthetic.Diagnoses())
			letter := fmt.Sprintf("Discharge letter\n\nPatient: %s, born %s\nDiagnosis: %s %s\n\nDear colleague,\n\nwe report on our patient, who was with us for two days.\nThe course was without complications. Please check the\nblood pressure in a week and continue the medication.\n\n%s\n",
				p.Name(), p.Born, d.Code, d.Text, p.Doctor)
			if err := keep(p, "discharge-letter-"+p.ID+".txt", "Discharge letter", []byte(letter)); err != nil {
				return nil, err
			}
		}
		if i%6 == 0 {
			var b bytes.Buffer
			if err := png.Encode(&b, radiograph(rnd)); err != nil {
				return nil, fmt.Errorf("drawing an image: %w", err)
			}
			if err := keep(p, "chest-"+p.ID+".png", "Chest, front view", b.Bytes()); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

// radiograph draws something that looks like an X-ray of a chest from afar.
func radiograph(rnd *rand.Rand) image.Image {
	const w, h = 256, 288
	img := image.NewGray(image.Rect(0, 0, w, h))
	ribs, tilt := 0.19+0.04*rnd.Float64(), 0.25+0.1*rnd.Float64()
	for y := range h {
		for x := range w {
			u, v := 2*float64(x)/w-1, 2*float64(y)/h-1
			side := math.Abs(u)
			body := soft(side / 0.93)
			lung := soft(math.Hypot((side-0.45)/0.34, (v-0.02)/0.8))
			rib := max(0, math.Cos(2*math.Pi*(v-tilt*side*side)/ribs)) * soft(side/0.85)
			heart := soft(math.Hypot((u-0.16)/0.32, (v-0.3)/0.34))
			g := body * (0.5 - 0.42*lung + 0.13*rib + 0.25*soft(u/0.11) + 0.28*heart*lung)
			img.SetGray(x, y, color.Gray{Y: uint8(255 * min(1, max(0, g+0.03*(rnd.Float64()-0.5))))})
		}
	}
	return img
}

// soft is 1 inside of the unit and falls to 0 outside of it.
func soft(x float64) float64 {
	x *= x
	x *= x
	return 1 / (1 + x*x)
}
