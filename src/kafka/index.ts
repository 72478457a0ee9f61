/** `hence/kafka`: the log in a topic of Kafka, and a source that makes requests of the records of a topic. */

export { type KafkaLogOptions, kafkaLog } from './carrier.ts'
export { type KafkaMessage, type KafkaSourceOptions, kafkaSource } from './source.ts'
