// The ping/pong of everybody's Gin tutorial, and a page from a template.
package main

import (
	"net/http"
	"os"

	"github.com/gin-gonic/gin"
)

func main() {
	router := gin.Default()
	router.LoadHTMLGlob("templates/*")
	router.GET("/ping", func(c *gin.Context) {
		c.JSON(http.StatusOK, gin.H{"message": "pong"})
	})
	router.GET("/", func(c *gin.Context) {
		c.HTML(http.StatusOK, "index.html", gin.H{"title": "Gin, run by hotrun"})
	})
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	if err := router.Run("127.0.0.1:" + port); err != nil {
		os.Exit(1)
	}
}
