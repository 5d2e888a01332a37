FROM node:22-slim
WORKDIR /app
COPY package.json .
RUN npm install
RUN npm install -g serve
COPY . .
CMD ["node", "greet.js"]
