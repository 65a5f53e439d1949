package gate

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// frame builds a frame as a server sends it.
func frame(first byte, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, payload...)
}

const (
	text, binaryFrame = 0x81, 0x82
	textBegins        = 0x01 // the first fragment of several
	goesOn, goesOnEnd = 0x00, 0x80
	ping, pong        = 0x89, 0x8a
	closes            = 0x88
	compressedText    = 0xc1 // permessage-deflate (RFC 7692)
)

const switchingHead = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n"

// However the bytes are cut into writes: a frame can stand behind each whole frame, and nowhere else.
func TestFramesKnowTheirBoundaries(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 300 {
		var sent []byte
		boundaries := map[int]bool{}
		if round%2 == 0 {
			sent = append(sent, switchingHead...)
		}
		boundaries[len(sent)] = true
		for range random.IntN(8) {
			kinds := []byte{text, binaryFrame, textBegins, goesOn, goesOnEnd, ping, pong, compressedText}
			kind := kinds[random.IntN(len(kinds))]
			sizes := []int{0, 1, 5, 125, 126, 127, 300, 1<<16 - 1, 1 << 16, 1<<16 + 7}
			size := sizes[random.IntN(len(sizes))]
			if kind&8 != 0 {
				size = min(size, 125)
			}
			f := frame(kind, bytes.Repeat([]byte{closes}, size)) // what looks like a header is none
			if random.IntN(5) == 0 && len(f) > 2 && f[1] < 126 {
				f = append([]byte{f[0], f[1] | 0x80, 1, 2, 3, 4}, f[2:]...) // masked
			}
			sent = append(sent, f...)
			boundaries[len(sent)] = true
		}
		f := &frames{}
		if round%2 != 0 {
			f.stage = inHeader
		}
		for at := 0; at < len(sent); {
			n := min(1+random.IntN([]int{1, 7, 40000}[random.IntN(3)]), len(sent)-at)
			f.see(sent[at : at+n])
			at += n
			if f.between() != boundaries[at] {
				t.Fatalf("round %d: after %d of %d bytes: between %t, want %t", round, at, len(sent), f.between(), boundaries[at])
			}
		}
	}
}

// After the server's own close frame, and after what is no frame, there is no place for ours ever again.
func TestFramesEnd(t *testing.T) {
	long := binary.BigEndian.AppendUint64([]byte{text, 127}, 1<<63)
	for name, sent := range map[string][]byte{
		"close":                     frame(closes, []byte{3, 0xe8}),
		"close without a reason":    frame(closes, nil),
		"close in two writes":       frame(closes, []byte("\x03\xe8a longer reason")),
		"a length of 2^63":          long,
		"reserved opcode":           frame(0x83, []byte("x")),
		"reserved control opcode":   frame(0x8b, []byte("x")),
		"fragmented ping":           frame(0x09, []byte("x")),
		"long ping":                 frame(ping, make([]byte, 126)),
		"text that is no WebSocket": []byte("hello, world"),
	} {
		f := &frames{stage: inHeader}
		for _, c := range sent {
			f.see([]byte{c})
		}
		f.see(frame(text, []byte("more")))
		f.see(bytes.Repeat([]byte{0}, 200))
		if f.between() {
			t.Errorf("%s: a frame can follow", name)
		}
	}
	for name, head := range map[string]string{
		"200":        "HTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.0":   "HTTP/1.0 101 Switching Protocols\r\n\r\n",
		"no end yet": "HTTP/1.1 101 Switching Protocols\r\nX: \r\n",
		"bare LF":    "HTTP/1.1 101 Switching Protocols\n\n",
		"CR CR":      "HTTP/1.1 101 Switching Protocols\r\r\n\r\r\n\r",
		"frames":     "\x81\x01x",
		"nothing":    "",
		"endless":    "HTTP/1.1 101 Switching Protocols\r\n" + string(make([]byte, longestHead)) + "\r\n\r\n",
	} {
		f := &frames{}
		f.see([]byte(head))
		if f.between() {
			t.Errorf("%s: taken for the head of a WebSocket", name)
		}
	}
	f := &frames{}
	f.see([]byte("HTTP/1.1 101 Switching Protocols\r\nX: \r\r\n\r\n"))
	if !f.between() {
		t.Error("a stray CR hides the end of the head")
	}
}

func TestCloseFrame(t *testing.T) {
	if got, want := closeFrame(closePolicy, closeText), "\x88\x0f\x03\xf0session ended"; string(got) != want {
		t.Errorf("%q, want %q", got, want)
	}
	f := &frames{stage: inHeader}
	f.see(closeFrame(closeGoingAway, closeText))
	if f.stage != lost {
		t.Error("our own close frame is none")
	}
}
