// A Gin server that is replaced without one refused connection. What it does for that is
// numbered; without hotrun it is a server like any other.
package main

import (
	"context"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/gin-gonic/gin"
)

const greeting = "Hello from Gin"

func main() {
	router := gin.New()
	router.GET("/", func(c *gin.Context) { c.String(http.StatusOK, greeting) })
	server := &http.Server{Handler: router}

	listener, err := listen()
	if err != nil {
		log.Fatal(err)
	}

	// 3. Listen for the signal before anybody is told that it may be sent.
	asked, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()

	served := make(chan error)
	go func() { served <- server.Serve(listener) }()
	ready()

	// 5. When asked to end, take no more connections, and then finish what was begun.
	select {
	case err := <-served:
		log.Fatal(err)
	case <-asked.Done():
	}
	listener.Close()
	<-served
	// Whoever was let in just now is about to ask, and Shutdown would hang up.
	time.Sleep(100 * time.Millisecond)
	grace, cancel := context.WithTimeout(context.Background(), 4*time.Second)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		log.Print(err)
	}
}

func listen() (net.Listener, error) {
	if os.Getenv("LISTEN_FDS") == "" {
		return net.Listen("tcp", "127.0.0.1:3000")
	}
	// 1. The socket that hotrun holds is descriptor 3.
	file := os.NewFile(3, "hotrun")
	// 2. The listener has a copy of its own.
	defer file.Close()
	return net.FileListener(file)
}

// 4. "I serve": now the old program is asked to end.
func ready() {
	if path := os.Getenv("NOTIFY_SOCKET"); path != "" {
		if socket, err := net.Dial("unixgram", path); err == nil {
			defer socket.Close()
			_, _ = socket.Write([]byte("READY=1"))
		}
	}
}
